"""Chat templates that do what published ones do, in words of their own, and conversations.

Each row of `CASES` is a template, the directory whose tokenizer it goes with
(`make_tokenizers_files`), and special tokens for `tokenizer_config.json`.
"""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# Qwen2: a system prompt of its own if the conversation has none
DEFAULT_SYSTEM = """\
{% for m in messages %}
    {% if loop.first and m.role != 'system' %}
<|im_start|>system
You are kind.<|im_end|>
    {% endif %}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""

# Qwen2.5 and Qwen3: tools, reasoning in the answers after the last question, an empty one on demand
THINKING = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "Functions, in <tools></tools>:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string
        and not message.content.startswith('<tool_response>') %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thoughts = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thoughts = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or thoughts) %}
            {{- '<|im_start|>' ~ message.role ~ '\\n<think>\\n' ~ thoughts.strip('\\n') }}
            {{- '\\n</think>\\n\\n' ~ content }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {%- if (loop.first and content) or not loop.first %}{{- '\\n' }}{%- endif %}
            {%- set call = call.function or call %}
            {{- '<tool_call>\\n{"name": "' ~ call.name ~ '", "arguments": ' }}
            {%- if call.arguments is string %}
                {{- call.arguments }}
            {%- else %}
                {{- call.arguments | tojson }}
            {%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or messages[loop.index0 - 1].role != "tool" %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' ~ content ~ '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

# Llama 3: the start token in the template, trimmed contents, a date
HEADERS = """\
{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = "26 Jul 2024" %}{% endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{%- endif %}
{{- system }}{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception("only one call at once") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", ' }}
        {{- '"parameters": ' }}{{- call.arguments | tojson }}{{- "}<|eot_id|>" }}
    {%- elif message.role in ('tool', 'ipython') %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

# Mistral: turns that must alternate
INSTRUCTIONS = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('user and assistant must take turns') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system is defined %}
            {{- "[INST] " + system + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- endif %}
{%- endfor %}"""

# GLM-4: a macro, tools within a message, escapes in JSON
MACROS = """\
[gMASK]<sop>{% macro named(tools) -%}
{% for tool in tools %}## {{ tool['function']['name'] }}

{{ tool['function'] | tojson(indent=4, ensure_ascii=False) }}
{% endfor %}
{%- endmacro -%}
{% for item in messages %}
{% if item['tools'] is defined %}<|system|>
{{ named(item['tools']) }}{% endif %}
{% if item['content'] %}<|{{ item['role'] }}|>{{ item['metadata'] }}
{{ item['content'] }}{% endif %}
{% endfor %}{% if tools %}{{ tools | tojson(ensure_ascii=true, sort_keys=true) }}{% endif %}
{% if add_generation_prompt %}<|assistant|>{% endif %}"""

# Gemma: other names of roles, the system prompt within the first turn, contents in parts
TURNS = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' -%}{{ '<image>' }}{%- continue -%}{%- endif -%}
            {{ part['text'] | trim }}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"""

# what else templates use: marked answers, filters, white space
ODDS = """\
  {# a comment #}
{% for m in messages %}
  {% if m.role == 'assistant' %}
{% generation %}{% set inner = 1 %}{{ m.content }}{% endgeneration %}
{{ inner is defined }}
    {% break %}
  {% else %}
{{ m.content | replace('a', 'bc') | upper | indent(2, true) }}|{{ m.content.replace('o', '0') }}
  {% endif %}
{% endfor %}
{{ messages | map(attribute='role') | join(', ') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{ ['b', 'a'] | sort | first }}{{ ('x' * 3) ~ none ~ 1.5 }}{{ {'b': [1, none]} | string }}
{{ (messages | last).name | default('nobody') }} {{ 7 // 2 }} {{ 2 ** 5 }} {{ not_there }}
{% for k, v in {'z': 1, 'y': {'n': "é<'"}} | dictsort %}{{ k }}={{ v | tojson }};{% endfor %}
{%- set joined %}{{ messages[0].content[:2] }}-{% endset %}{{ joined * 2 }}
{{ documents }} {{ dict(a=1).get('b', 'none') }} {{ 'x' in 'xyz' and 3 in range(4) }}

"""

QWEN, LLAMA = "qwen2", "llama3_one_file"
ENDS = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
CASES = {
    "chatml": (CHATML, QWEN, {}),
    "default_system": (DEFAULT_SYSTEM, QWEN, {}),
    "thinking": (THINKING, QWEN, {}),
    "headers": (HEADERS, LLAMA, ENDS),
    "instructions": (INSTRUCTIONS, LLAMA, ENDS),
    "macros": (MACROS, LLAMA, ENDS),
    "turns": (TURNS, LLAMA, ENDS),
    "odds": (ODDS, QWEN, {}),
    "named": (
        [
            {"name": "default", "template": CHATML},
            {"name": "tool_use", "template": THINKING},
        ],
        QWEN,
        {},
    ),
}

WEATHER = {
    "type": "function",
    "function": {
        "name": "天气",
        "description": "Tells the weather <b>today</b> & 'tomorrow'.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
_ASKED = {"role": "user", "content": "今天天气真好, hello foo"}
_CALL = {"type": "function", "function": {"name": "天气", "arguments": {"city": "北京", "n": 2}}}
CONVERSATIONS = {
    "question": [_ASKED],
    "system": [{"role": "system", "content": " Be brief.\n"}, _ASKED],
    "turns": [
        _ASKED,
        {"role": "assistant", "content": " bar <think>hm\n</think>\n\nbaz "},
        {"role": "user", "content": "<|im_end|> </think> qux\n"},
    ],
    "answered": [_ASKED, {"role": "assistant", "content": "yes", "reasoning": "\nwell\n"}],
    "two_questions": [_ASKED, _ASKED],
    "tools": [
        {"role": "system", "content": "S", "tools": [WEATHER]},
        _ASKED,
        {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        {"role": "tool", "content": "晴 25°", "name": "天气"},
        {"role": "tool", "content": '{"a": 1}'},
        {"role": "assistant", "content": "Sunny.", "thinking": "so"},
    ],
    "parts": [
        {"role": "user", "content": [{"type": "text", "text": " a "}, {"type": "image"}]},
    ],
}
# arguments besides the messages
OPTIONS = [
    {},
    {"add_generation_prompt": True},
    {"add_generation_prompt": True, "enable_thinking": False, "date_string": "1 Jan 2030"},
    {"tools": [WEATHER]},
]
