"""The page in a real browser: what a person types, presses and sees.

Needs Chromium (Debian's package `chromium`) and `pip install playwright`; skipped without them.
"""

import os
import shutil
import threading

import keras
import numpy as np
import pytest
from goldens.recipes import FOLDER

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.applications.serving import load
from bert4keras_lite.applications.serving.abilities import GeneratedText, Served
from bert4keras_lite.layers import GlobalPointer
from bert4keras_lite.pipelines import save_classifier, save_tagger
from bert4keras_lite.pipelines.base import Encoded

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")
from test_serving import listening  # noqa: E402

from bert4keras_lite.applications.serving.app import create_app  # noqa: E402

TINY = FOLDER / "bert/hf_tiny_safetensors"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
POEM = "天地不仁，以万物为刍狗；<b>圣人</b>不仁，以百姓为刍狗。"
WAITS_AT = 4


class Poet:
    """Writes the same poem for everybody, a character at a time; waits within it to be let on."""

    generates, example = True, "天"

    def __init__(self):
        self.goes_on = threading.Event()

    def prepare(self, text, **settings):
        return Encoded(text, ())

    def key(self, item):
        return item

    def program(self, jobs):
        for i, character in enumerate(POEM):
            if i == WAITS_AT:
                self.goes_on.wait(60)
            for job in jobs:
                job.emit(character)
            yield
        for job in jobs:
            job.emit(GeneratedText("stop", len(POEM), -1.5, POEM))


@pytest.fixture(scope="module")
def poet():
    return Poet()


@pytest.fixture(scope="module")
def address(poet, tmp_path_factory):
    """Of a server that can do everything."""
    keras.utils.set_random_seed(0)
    directory = tmp_path_factory.mktemp("tagger")
    base = build_transformer_model(TINY)
    model = keras.Model(base.inputs, GlobalPointer(2, 8)(base.output))
    save_tagger(directory, model, ["人物", "地点"], load_tokenizer(TINY))
    classifier = tmp_path_factory.mktemp("classifier")
    logits = keras.layers.Dense(3, kernel_initializer="random_normal")(base.output[:, 0])
    labels = ["差评", "中评", "好评"]
    save_classifier(classifier, keras.Model(base.inputs, logits), labels, load_tokenizer(TINY))
    extra = {}
    for option, kind, names in (("reranker", "text", ["LABEL_0"]), ("extractor", "spans", None)):
        options = {"with_classifier": kind, "labels": names, "new_classifier": True}
        transformer = build_transformer_model(TINY, return_keras_model=False, **options)
        kernel = transformer.variables[f"{kind}_classifier/kernel"]
        kernel.assign(np.random.RandomState(0).standard_normal(kernel.shape))
        extra[option] = tmp_path_factory.mktemp(option)
        transformer.save_checkpoint(extra[option], "hf", vocab=load_tokenizer(TINY))
    served = load(TINY, ner=directory, classifier=classifier, **extra)
    abilities = served.abilities | {"generate": poet}
    app = create_app(Served(served.transformer, served.tokenizer, abilities, {}), name="试验")
    with listening(app) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser():
    playwright.expect.set_options(timeout=30_000)
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = started.chromium.launch(executable_path=BROWSER, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page, connected; nothing may go wrong on it, and nothing come from elsewhere."""
    page = browser.new_page(viewport={"width": 390, "height": 800})
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def on_request(request):
        if not request.url.startswith(address):
            wrong.append(request.url)

    def on_message(message):
        if message.type == "error" and "422" not in message.text:
            wrong.append(message.text)

    page.on("request", on_request)
    page.on("console", on_message)
    page.goto(address)
    page.locator("#layer option").first.wait_for(state="attached")
    yield page
    page.close()
    assert wrong == []


def submit(page, section):
    page.locator(f"#{section} [type=submit]").click()
    playwright.expect(page.locator(f"#{section} [type=submit]")).to_be_enabled()
    return page.locator(f"#{section} .answer")


def asked(address, path, **body):
    return httpx.post(f"{address}/v1/{path}", json=body).raise_for_status().json()


def test_the_page_says_what_is_served(page):
    assert page.locator("#name").inner_text() == "试验"
    assert "bert · 2 层 · 4 头" in page.locator("#facts").inner_text()
    assert page.locator(".absent").count() == 0


def test_the_page_asks_for_a_token(browser):
    token = "a-token-of-the-tests"
    with listening(create_app(load(TINY), name="试验", token=token)) as (address, _):
        page = browser.new_page()
        page.goto(address)
        playwright.expect(page.locator("#login")).to_be_visible()
        page.fill("#token", token)
        page.locator("#login [type=submit]").click()
        playwright.expect(page.locator("#name")).to_have_text("试验")
        playwright.expect(page.locator("#login")).to_be_hidden()
        page.close()


def test_masks_are_filled(page, address):
    page.fill("#mask-text", "天不是人")
    page.evaluate("document.getElementById('mask-text').setSelectionRange(1, 1)")
    page.click("#insert")
    assert page.input_value("#mask-text") == "天[MASK]不是人"
    shown = submit(page, "fill-mask")
    (candidates,) = asked(address, "fill-mask", texts=["天[MASK]不是人"], top=8)["results"][0][
        "masks"
    ]
    items = shown.locator("li")
    assert items.locator("button").all_inner_texts() == [one["token"] for one in candidates]
    assert items.locator(".share").all_inner_texts() == [
        f"{100 * one['probability']:.1f}%" for one in candidates
    ]
    assert shown.locator(".written").inner_text() == f"天{candidates[0]['token']}不是人"
    items.nth(2).locator("button").click()
    assert shown.locator(".written").inner_text() == f"天{candidates[2]['token']}不是人"


def test_text_streams_and_stops(page, poet):
    page.fill("#prompt", "<i>天</i>")
    page.locator("#generate [type=submit]").click()
    written = page.locator("#generate .written b")
    playwright.expect(written).to_have_text(POEM[:WAITS_AT])
    assert page.locator("#generate .answer").get_attribute("aria-busy") == "true"
    page.click("#stop")
    playwright.expect(page.locator("#generate .answer")).to_contain_text("已停止")
    poet.goes_on.set()
    assert written.inner_text() == POEM[:WAITS_AT]
    page.check("#sample")
    shown = submit(page, "generate")
    assert shown.locator(".written").inner_text() == POEM
    assert shown.locator(".written b b").count() == 0  # tags are text
    assert "写完了" in shown.inner_text() and "seed" in shown.inner_text()


def test_similarity_is_a_table(page, address):
    texts = ["天地", "大人<b>不</b>小", "人"]
    page.fill("#sentences", "\n".join(["", *texts, "  "]))
    shown = submit(page, "vectors")
    expected = asked(address, "similarity", texts=texts)["similarity"]
    cells = [float(cell) for cell in shown.locator("td:not(:empty)").all_inner_texts()]
    np.testing.assert_allclose(np.reshape(cells, (3, 3)), expected, atol=6e-4)
    assert shown.locator("li").all_inner_texts() == texts


@pytest.mark.parametrize("second", ["", "大人"])
def test_labels_have_bars(page, address, second):
    page.fill("#class-text", "天地不是人")
    page.fill("#class-second", second)
    shown = submit(page, "classify")
    pair = {"second_texts": [second]} if second else {}
    (labels,) = asked(address, "classify", texts=["天地不是人"], top=8, **pair)["results"]
    assert shown.locator("li b").all_inner_texts() == [x["label"] for x in labels]


def test_entities_are_marked(page, address):
    text = "😀天地不是<人>大人"
    page.fill("#entity-text", text)
    shown = submit(page, "entities")
    (found,) = asked(address, "entities", texts=[text])["results"]
    assert found
    assert shown.locator("li").all_inner_texts() == [f"{e['text']} · {e['kind']}" for e in found]
    line = shown.locator(".written")
    line.locator("small").evaluate_all("elements => elements.forEach((one) => one.remove())")
    assert line.inner_text() == text


def test_passages_are_in_order(page, address):
    passages = ["大人不小", "人不是<天>", "小"]
    page.fill("#query", "天地")
    page.fill("#passages", "\n".join([*passages, ""]))
    shown = submit(page, "rerank")
    results = asked(address, "rerank", query="天地", passages=passages)["results"]
    assert shown.locator("li b").all_inner_texts() == [x["passage"] for x in results]
    shares = shown.locator("li .share").all_inner_texts()
    assert shares == [f"{100 * x['probability']:.1f}%" for x in results]


def test_what_a_schema_finds_is_listed(page, address):
    text = "😀天地不是<人>大人"
    page.fill("#extract-text", text)
    page.fill("#schema", "地：大，小、人[天，地]\n人[天,地]\n\n")
    shown = submit(page, "extract-information")
    schema = {"地": ["大", "小", "人[天，地]"], "人[天,地]": []}
    (found,) = asked(address, "extract-information", texts=[text], schema=schema)["results"]

    def lines(found):
        for name, answers in found.items():
            for x in answers:
                yield f"{x['text']} · {name} {100 * x['probability']:.1f}%"
                yield from lines(x.get("relations", {}))

    own_texts = "items => items.map((item) => item.firstChild.textContent)"
    assert shown.locator("li").evaluate_all(own_texts) == [*lines(found)] != []


def test_attention_is_a_picture(page, address):
    page.fill("#attention-text", "天地不是人")
    page.select_option("#layer", index=0)
    submit(page, "attention")
    weights = np.array(asked(address, "attention", text="天地不是人", layers=[0])["weights"][0])
    assert page.locator("#heads button").count() == len(weights)
    page.locator("#heads button").nth(2).click()
    assert page.locator("#heads button").nth(2).get_attribute("aria-pressed") == "true"
    strip = page.locator("#from button")
    assert strip.all_inner_texts() == ["[CLS]", *"天地不是人", "[SEP]"]
    strip.nth(4).click()
    labels = [button.get_attribute("aria-label") for button in strip.all()]
    shares = [float(label.split("，")[1][:-1]) / 100 for label in labels]
    np.testing.assert_allclose(shares, weights[2, 4], atol=1e-3)
    # the colour of every cell, read off the canvas: more attention, further from the background
    alphas = page.evaluate(
        """size => {
          const map = document.getElementById("map");
          const sharp = devicePixelRatio, cell = (map.width / sharp - 44) / size;
          const pen = map.getContext("2d");
          const at = (i) => Math.round((44 + (i + 0.5) * cell) * sharp);
          return Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) =>
            pen.getImageData(at(j), at(i), 1, 1).data[3]));
        }""",
        len(labels),
    )
    np.testing.assert_allclose(np.array(alphas) / 255, np.sqrt(weights[2]), atol=0.02)
    page.select_option("#layer", index=1)
    playwright.expect(page.locator("#attention [type=submit]")).to_be_enabled()
    other = asked(address, "attention", text="天地不是人", layers=[1])["weights"][0][2][1]
    playwright.expect(page.locator("#from button").first).to_have_attribute(
        "aria-label", f"[CLS]，{100 * other[0]:.1f}%"
    )


def test_the_attention_of_a_text_of_one_token(page):
    told = {"tokens": [{"token": "天", "start": 0, "end": 1}], "layers": [0], "heads": [0]}
    answer = told | {"weights": [[[[1.0]]]]}
    page.route("**/v1/attention", lambda route: route.fulfill(json=answer))
    page.fill("#attention-text", "天")
    assert submit(page, "attention").get_by_role("alert").count() == 0
    assert page.locator("#row").inner_text() == "“天” → 天 100.0%"


def test_what_is_wrong_is_said(page):
    page.fill("#mask-text", "没有")
    shown = submit(page, "fill-mask")
    alert = shown.get_by_role("alert")
    assert "请检查输入 (422) texts[0]" in alert.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_in_either_light(page, scheme):
    page.emulate_media(color_scheme=scheme)
    sections = ("fill-mask", "vectors", "rerank", "entities", "extract-information", "attention")
    for section in sections:
        submit(page, section)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    colours = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    ink, paper = (
        sum(int(part) for part in colour.removeprefix("rgb(")[:-1].split(",")) for colour in colours
    )
    assert (ink < paper) == (scheme == "light") and abs(ink - paper) > 450


def test_everything_has_a_name_and_a_place_in_the_order_of_keys(page):
    for section in ("fill-mask", "attention"):
        submit(page, section)
    for control in page.locator("textarea, input, select").all():
        assert control.evaluate("element => element.labels[0]?.textContent.trim()")
    for button in page.locator("button").all():
        assert button.inner_text().strip() or button.get_attribute("aria-label")
    assert page.locator("#map").get_attribute("aria-label")
    page.locator("#from button").nth(2).focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
