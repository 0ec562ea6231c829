// What the page does: asks the server, and shows what it says. All text goes in as text, never as
// HTML.

const $ = (id) => document.getElementById(id);

/** An element with attributes and children (strings become text). */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** The lines of a text field that are not blank. */
const linesOf = (id) => $(id).value.split("\n").filter((line) => line.trim());

const percent = (share) => `${(100 * share).toFixed(1)}%`;

// ---------------------------------------------------------------- asking

let token = ""; // of the server, if it asks for one: kept here, and nowhere else

/** Headers of every request. */
const withToken = (headers = {}) => (token ? { ...headers, Authorization: `Bearer ${token}` } : headers);

const SAID = {
  401: "需要令牌",
  404: "此模型不支持",
  413: "内容太长",
  422: "请检查输入",
  503: "服务器忙，请稍后再试",
  504: "超时",
};

async function respond(response) {
  if (response.ok) return response;
  let message = response.statusText;
  try {
    const { error } = await response.json();
    message = error.field ? `${error.field}: ${error.message}` : error.message;
  } catch {
    // no JSON: the status says it
  }
  throw new Error(`${SAID[response.status] ?? "出错了"} (${response.status}) ${message}`);
}

async function post(path, body, signal) {
  const headers = withToken({ "Content-Type": "application/json" });
  return respond(await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal }));
}

const ask = async (path, body) => (await post(path, body)).json();

/** The events of a stream, as [kind, data]. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const parts = buffer.split("\n\n");
    buffer = parts.pop();
    for (const part of parts) {
      const [kind, data] = part.split("\n").map((line) => line.slice(line.indexOf(": ") + 2));
      yield [kind, JSON.parse(data)];
    }
  }
}

/** Lets a section's form run `work(answer)`, where `answer` is what shows the result. */
function onSubmit(id, work) {
  const section = $(id);
  const form = section.querySelector("form");
  const answer = section.querySelector(".answer");
  const button = form.querySelector("[type=submit]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await work(answer);
    } catch (error) {
      const message = error instanceof TypeError ? "连不上服务器 The server cannot be reached." : error.message;
      answer.replaceChildren(make("p", { class: "wrong", role: "alert" }, message));
    } finally {
      button.disabled = false;
    }
  });
}

// ---------------------------------------------------------------- the model

let model;

async function connect() {
  try {
    const response = await fetch("v1/model", { headers: withToken() });
    $("login").hidden = response.status !== 401;
    model = await (await respond(response)).json();
  } catch (error) {
    const message = error instanceof TypeError ? `连不上服务器 ${error.message}` : error.message;
    $("facts").replaceChildren(make("span", { class: "wrong", role: "alert" }, message));
    return;
  }
  $("name").textContent = model.name;
  const size = `${(model.parameters / 1e6).toFixed(1)} M`;
  $("facts").textContent =
    `${model.family} · ${model.blocks} 层 · ${model.heads} 头 · 隐层 ${model.hidden_size} · 词表 ${model.vocabulary} · 参数 ${size} · ${model.backend}`;
  if (model.mask && model.mask !== "[MASK]") {
    for (const element of document.querySelectorAll(".mask")) element.textContent = model.mask;
    $("mask-text").value = $("mask-text").value.replaceAll("[MASK]", model.mask);
  }
  for (const [name, reason] of Object.entries(model.cannot)) {
    const section = $(name);
    section.classList.add("absent");
    section.querySelector(".answer").replaceChildren(
      make("p", { class: "quiet" }, "此模型不支持 ", make("small", { lang: "en" }, reason)),
    );
  }
  for (const id of ["chat", "chat-link"]) $(id).hidden = !model.abilities.includes("chat");
  $("new-tokens").max = model.limits.new_tokens;
  $("prompt-label").textContent = model.continues ? "开头" : "原文";
  for (let i = 0; i < model.blocks; i++) $("layer").append(make("option", { value: i }, String(i + 1)));
  $("layer").value = model.blocks - 1;
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  connect();
});

// ---------------------------------------------------------------- masks

$("insert").addEventListener("click", () => {
  const area = $("mask-text");
  area.setRangeText(model?.mask ?? "[MASK]", area.selectionStart, area.selectionEnd, "end");
  area.focus();
});

function barItem(head, probability) {
  const bar = make("span", { class: "bar", "aria-hidden": "true" });
  bar.style.width = `${100 * Math.min(1, Math.max(0, probability))}%`; // a regression has any value
  return make("li", {}, head, bar, make("span", { class: "share" }, percent(probability)));
}

onSubmit("fill-mask", async (answer) => {
  const body = { texts: [$("mask-text").value], top: 8 };
  const [{ text, masks }] = (await ask("v1/fill-mask", body)).results;
  const pieces = text.split(model.mask);
  const chosen = masks.map((candidates) => make("b", {}, candidates[0].token));
  const sentence = make("p", { class: "written" });
  pieces.forEach((piece, i) => sentence.append(piece, chosen[i] ?? ""));
  const lists = masks.map((candidates, i) => {
    const items = candidates.map(({ token, probability }) => {
      const pick = make("button", { type: "button" }, token);
      pick.addEventListener("click", () => (chosen[i].textContent = token));
      return barItem(pick, probability);
    });
    return make("div", {}, make("h3", { class: "quiet" }, `第 ${i + 1} 处`), make("ol", {}, ...items));
  });
  answer.replaceChildren(sentence, make("div", { class: "candidates" }, ...lists));
});

// ---------------------------------------------------------------- writing

const ENDS = { stop: "写完了", length: "到了字数上限", time: "到了时间上限" };
let writing = null;

$("stop").addEventListener("click", () => writing?.abort());

onSubmit("generate", async (answer) => {
  const text = $("prompt").value;
  const body = { text, max_new_tokens: $("new-tokens").valueAsNumber, stream: true };
  if ($("sample").checked) {
    body.sample = true;
    body.temperature = $("temperature").valueAsNumber;
    body.top_p = $("top-p").valueAsNumber;
  }
  const written = make("b");
  const note = make("p", { class: "quiet" }, "…");
  answer.replaceChildren(make("p", { class: "written" }, model.continues ? text : "", written), note);
  await streamed("v1/generate", body, written, note, answer, "stop");
});

/** Shows a text as it is generated; the button `stop` ends it. Tells whether it is complete. */
async function streamed(path, body, written, note, answer, stop) {
  writing = new AbortController();
  $(stop).disabled = false;
  answer.setAttribute("aria-busy", "true");
  try {
    for await (const [kind, data] of events(await post(path, body, writing.signal))) {
      if (kind === "piece") written.append(data.text);
      else if (kind === "end") {
        const seed = data.seed === null ? "" : ` · seed ${data.seed}`;
        note.textContent = `${ENDS[data.reason]}${data.tokens === null ? "" : ` · ${data.tokens} tokens`}${seed}`;
      } else throw new Error(data.message);
    }
    return true;
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    note.textContent = "已停止 Stopped";
    return false;
  } finally {
    $(stop).disabled = true;
    answer.setAttribute("aria-busy", "false");
  }
}

// ---------------------------------------------------------------- chat

let messages = []; // of the conversation, with the answers

$("hush").addEventListener("click", () => writing?.abort());

$("anew").addEventListener("click", () => {
  writing?.abort();
  messages = [];
  $("messages").replaceChildren();
});

onSubmit("chat", async (answer) => {
  const asked = { role: "user", content: $("message").value };
  const conversation = [...messages, asked];
  const written = make("b");
  const note = make("p", { class: "quiet" }, "…");
  const said = conversation.map(({ role, content }) => make("p", { class: `written ${role}` }, content));
  answer.replaceChildren(...said, make("p", { class: "written assistant" }, written), note);
  const body = { messages: conversation, stream: true };
  if (await streamed("v1/chat", body, written, note, answer, "hush")) {
    messages = [...conversation, { role: "assistant", content: written.textContent }];
    $("message").value = "";
  }
});

// ---------------------------------------------------------------- similarity

onSubmit("vectors", async (answer) => {
  const texts = linesOf("sentences");
  const { similarity } = await ask("v1/similarity", { texts });
  const head = make("tr", {}, make("td"), ...texts.map((_, i) => make("th", { scope: "col" }, String(i + 1))));
  const rows = similarity.map((values, i) => {
    const cells = values.map((value) => {
      const cell = make("td", {}, value.toFixed(3));
      cell.style.background = tint(value);
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row" }, String(i + 1)), ...cells);
  });
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  const list = make("ol", { class: "sentences" }, ...texts.map((text) => make("li", {}, text)));
  answer.replaceChildren(list, make("div", { class: "scroll" }, table));
});

const tint = (value) => `color-mix(in srgb, var(--accent) ${Math.max(0, 45 * value)}%, var(--card))`;

// ---------------------------------------------------------------- classify

onSubmit("classify", async (answer) => {
  const [first, second] = [$("class-text").value, $("class-second").value];
  const body = { texts: [first], top: 8, ...(second && { second_texts: [second] }) };
  const [labels] = (await ask("v1/classify", body)).results;
  const items = labels.map(({ label, probability }) => barItem(make("b", {}, label), probability));
  answer.replaceChildren(make("div", { class: "candidates" }, make("ol", {}, ...items)));
});

// ---------------------------------------------------------------- rerank

onSubmit("rerank", async (answer) => {
  const { results } = await ask("v1/rerank", { query: $("query").value, passages: linesOf("passages") });
  const items = results.map(({ passage, probability }) => barItem(make("b", {}, passage), probability));
  answer.replaceChildren(make("div", { class: "candidates ranked" }, make("ol", {}, ...items)));
});

// ---------------------------------------------------------------- entities

onSubmit("entities", async (answer) => {
  const text = $("entity-text").value;
  const [found] = (await ask("v1/entities", { texts: [text] })).results;
  const characters = [...text]; // offsets count characters, JavaScript's strings UTF-16 units
  const line = make("p", { class: "written" });
  let end = 0;
  for (const entity of found) {
    if (entity.start < end) continue; // within the one before; the list below has it
    line.append(characters.slice(end, entity.start).join(""));
    line.append(make("mark", {}, entity.text, make("small", {}, entity.kind)));
    end = entity.end;
  }
  line.append(characters.slice(end).join(""));
  const list = found.map(({ text, kind }) => make("li", {}, `${text} · ${kind}`));
  answer.replaceChildren(line, found.length ? make("ul", {}, ...list) : make("p", { class: "quiet" }, "没有找到"));
});

// ---------------------------------------------------------------- information

/** A schema from lines such as "人物：出生地，国籍"; commas within brackets separate options. */
function schemaOf(lines) {
  const names = (text) => text.split(/[,，、](?![^[［]*[\]］])/).map((name) => name.trim()).filter(Boolean);
  const pairs = lines.map((line) => {
    const [name, ...about] = line.split(/[:：]/);
    return [name.trim(), names(about.join(":"))];
  });
  return Object.fromEntries(pairs);
}

/** A list of what was found for each name, each with its relations below it. */
function foundList(found) {
  const items = Object.entries(found).flatMap(([name, answers]) =>
    answers.map(({ text, probability, relations }) =>
      make("li", {}, `${text} · ${name} ${percent(probability)}`, ...(relations ? [foundList(relations)] : [])),
    ),
  );
  return make("ul", {}, ...items);
}

onSubmit("extract-information", async (answer) => {
  const body = { texts: [$("extract-text").value], schema: schemaOf(linesOf("schema")) };
  const [found] = (await ask("v1/extract-information", body)).results;
  const isEmpty = Object.keys(found).length === 0;
  answer.replaceChildren(isEmpty ? make("p", { class: "quiet" }, "没有找到") : foundList(found));
});

// ---------------------------------------------------------------- attention

let picture = null; // { labels, weights: [head][from][to], head, from }

onSubmit("attention", async (answer) => {
  const text = $("attention-text").value;
  const found = await ask("v1/attention", { text, layers: [Number($("layer").value)] });
  const characters = [...text];
  const labels = found.tokens.map(({ token, start, end }) =>
    start < end ? characters.slice(start, end).join("") : token,
  );
  const head = Math.min(picture?.head ?? 0, found.heads.length - 1);
  picture = { labels, weights: found.weights[0], head, from: Math.min(1, labels.length - 1) };
  answer.replaceChildren();
  $("picture").hidden = false;
  draw();
});

$("layer").addEventListener("change", () => {
  if (picture) $("attention").querySelector("form").requestSubmit();
});

function draw() {
  const { labels, weights, head, from } = picture;
  $("heads").replaceChildren(
    ...weights.map((matrix, i) => {
      const small = make("canvas", { "aria-hidden": "true", width: labels.length, height: labels.length });
      paint(small.getContext("2d"), matrix, 1, 0);
      const button = make("button", { type: "button", "aria-pressed": i === head }, small, `头 ${i + 1}`);
      button.addEventListener("click", () => show({ head: i }, $("heads"), i));
      return button;
    }),
  );
  const row = weights[head][from];
  $("from").replaceChildren(
    ...labels.map((label, i) => {
      const said = `${label}，${percent(row[i])}`;
      const button = make("button", { type: "button", "aria-pressed": i === from, "aria-label": said }, label);
      button.style.setProperty("--weight", Math.sqrt(row[i]));
      button.addEventListener("click", () => show({ from: i }, $("from"), i));
      return button;
    }),
  );
  const best = row.map((share, i) => [share, labels[i]]).sort((a, b) => b[0] - a[0]).slice(0, 5);
  $("row").textContent = `“${labels[from]}” → ${best.map(([share, label]) => `${label} ${percent(share)}`).join("，")}`;
  drawMap(labels, weights[head], head);
}

/** Changes the picture; the button that was pressed is made anew and keeps the focus. */
function show(change, group, i) {
  Object.assign(picture, change);
  draw();
  group.children[i].focus();
}

const MARGIN = 44;
const [SMALLEST, LARGEST] = [20, 36]; // cells, in pixels
let cell = SMALLEST;

function drawMap(labels, matrix, head) {
  const map = $("map");
  const room = (map.parentElement.clientWidth - MARGIN) / labels.length;
  cell = Math.max(SMALLEST, Math.min(LARGEST, Math.floor(room)));
  const size = MARGIN + labels.length * cell;
  const sharp = window.devicePixelRatio || 1;
  map.width = map.height = size * sharp;
  map.style.width = map.style.height = `${size}px`;
  map.setAttribute("aria-label", `第 ${head + 1} 头的注意力，${labels.length} × ${labels.length}`);
  const pen = map.getContext("2d");
  pen.scale(sharp, sharp);
  paint(pen, matrix, cell, MARGIN);
  pen.fillStyle = colour("--ink");
  pen.font = "14px system-ui, sans-serif";
  pen.textBaseline = "middle";
  labels.forEach((label, i) => {
    const middle = MARGIN + (i + 0.5) * cell;
    pen.textAlign = "right";
    pen.fillText(label, MARGIN - 4, middle, MARGIN - 6);
    pen.textAlign = "center";
    pen.fillText(label, middle, MARGIN - 10, cell);
  });
}

/** A matrix of shares as squares. */
function paint(pen, matrix, size, margin) {
  pen.fillStyle = colour("--accent");
  matrix.forEach((row, i) =>
    row.forEach((share, j) => {
      pen.globalAlpha = Math.sqrt(share);
      pen.fillRect(margin + j * size, margin + i * size, size, size);
    }),
  );
  pen.globalAlpha = 1;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

/** Which cell of the map a pointer is on. */
function cellAt({ offsetX, offsetY }) {
  const place = (offset) => Math.floor((offset - MARGIN) / cell);
  const [to, from] = [place(offsetX), place(offsetY)];
  const size = picture.labels.length;
  return from >= 0 && from < size && to >= 0 && to < size ? { from, to } : null;
}

$("map").addEventListener("click", (event) => {
  const place = cellAt(event);
  if (place) {
    picture.from = place.from;
    draw();
  }
});

$("map").addEventListener("pointermove", (event) => {
  const place = cellAt(event);
  const { labels, weights, head } = picture;
  $("map").title = place
    ? `${labels[place.from]} → ${labels[place.to]} ${percent(weights[head][place.from][place.to])}`
    : "";
});

window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => picture && draw());

connect();
