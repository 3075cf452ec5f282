"""Chat templates as each family writes its turns, in words of our own: marks, order and forms are the families'."""

from __future__ import annotations

LLAMA_2 = """\
{%- set rest = messages -%}
{%- set first = '' -%}
{%- if messages[0].role == 'system' -%}
{%- set first = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' -%}
{%- set rest = messages[1:] -%}
{%- endif -%}
{%- for turn in rest -%}
{%- if (turn.role == 'user') != (loop.index0 is even) -%}{{ raise_exception('Roles must take turns') }}{%- endif -%}
{%- if turn.role == 'user' -%}
{{ bos_token + '[INST] ' + (first if loop.first else '') + turn.content | trim + ' [/INST]' }}
{%- else -%}
{{ ' ' + turn.content | trim + ' ' + eos_token }}
{%- endif -%}
{%- endfor -%}"""

LLAMA_3 = """\
{{- bos_token }}
{%- macro head(role) %}{{ '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' }}{% endmacro %}
{%- if messages[0].role == 'system' %}
    {%- set system, turns = messages[0].content | trim, messages[1:] %}
{%- else %}
    {%- set system, turns = '', messages %}
{%- endif %}
{{- head('system') }}
{%- if tools %}{{- 'Environment: ipython\\n' }}{% endif %}
{{- 'Today Date: ' + (strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024') + '\\n\\n' }}
{{- system + '<|eot_id|>' }}
{%- for turn in turns %}
    {%- if turn.role == 'tool' %}
        {{- head('ipython') }}
        {{- (turn.content if turn.content is string else turn.content | tojson) + '<|eot_id|>' }}
    {%- elif turn.tool_calls %}
        {%- if turn.tool_calls | length != 1 %}{{ raise_exception('One call at a time') }}{% endif %}
        {%- set call = turn.tool_calls[0].function %}
        {{- head('assistant') + '{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson + '}<|eot_id|>' }}
    {%- elif tools and loop.first and turn.role == 'user' %}
        {{- head('user') + 'Functions:\\n\\n' }}
        {%- for tool in tools %}{{- tool | tojson(indent=4) + '\\n\\n' }}{% endfor %}
        {{- turn.content | trim + '<|eot_id|>' }}
    {%- else %}
        {{- head(turn.role) + turn.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- head('assistant') }}{% endif %}
"""

MISTRAL = """\
{%- set system = messages[0].content if messages[0].role == 'system' else none %}
{%- set turns = messages[1:] if system is not none else messages %}
{%- set last = turns | selectattr('role', 'equalto', 'user') | list | last %}
{{- bos_token }}
{%- for turn in turns %}
    {%- if turn.role == 'user' %}
        {%- if tools and turn == last %}
            {{- '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' + (system + '\\n\\n' if system is not none and turn == last else '') + turn.content + '[/INST]' }}
    {%- elif turn.tool_calls %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in turn.tool_calls %}
            {{- call.function | tojson }}{{ ', ' if not loop.last }}
        {%- endfor %}
        {{- ']' + eos_token }}
    {%- elif turn.role == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' + turn.content | string + '}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- ' ' + turn.content + eos_token }}
    {%- endif %}
{%- endfor %}"""

GEMMA = """\
{{ bos_token }}
{%- set before = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}
{%- for turn in messages if turn.role != 'system' %}
{{- '<start_of_turn>' + ('model' if turn.role == 'assistant' else turn.role) + '\\n' }}
{{- (before if loop.first else '') + turn.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

PHI_3 = """\
{% for turn in messages %}
{% if turn.role in ('system', 'user', 'assistant') %}
{{ '<|' + turn.role + '|>\\n' + turn.content + '<|end|>\\n' }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

QWEN = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{% endif %}
    {{- '# Tools\\n\\nSignatures within <tools></tools>:\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{% endfor %}
    {{- '\\n</tools>\\n\\nCalls as <tool_call></tool_call>.<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for turn in messages %}
    {%- if turn.role == 'user' or (turn.role == 'assistant' and not turn.tool_calls) %}
        {{- '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' }}
    {%- elif turn.role == 'assistant' %}
        {{- '<|im_start|>assistant' }}
        {%- if turn.content %}{{- '\\n' + turn.content }}{% endif %}
        {%- for call in turn.tool_calls %}
            {{- '\\n<tool_call>\\n{"name": "' }}{{- call.function.name }}{{- '", "arguments": ' }}
            {{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif turn.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + turn.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""

FALCON = """\
{%- for turn in messages %}
    {%- if not loop.first %}{{- '\\n' }}{% endif %}
    {{- {'system': 'System', 'user': 'User', 'assistant': 'Falcon'}[turn.role] ~ ': ' ~ turn.content | trim }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '\\nFalcon:' }}{% endif %}"""

ZEPHYR = """\
{% for turn in messages %}
{{ '<|' + turn.role + '|>\\n' + turn.content + eos_token }}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

TEMPLATES = {
    "llama-2": LLAMA_2,
    "llama-3": LLAMA_3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "phi-3": PHI_3,
    "qwen": QWEN,
    "falcon-instruct": FALCON,
    "zephyr": ZEPHYR,
}
WITH_TOOLS = ("llama-3", "mistral", "qwen")
