"""OpenAI's Python client through a running proxy: `openai_client.py PROXY OPENAI`, the proxy's token in APP_TOKEN. OPENAI is the stand-in, which is
told how to misbehave. What the client makes of the answers must be what it makes of OpenAI's own."""

import json
import os
import sys
import urllib.request

import openai

proxy, stand_in = sys.argv[1], sys.argv[2]
client = openai.OpenAI(base_url=proxy, api_key=os.environ["APP_TOKEN"], max_retries=2)
asked = {"model": "gpt-5", "messages": [{"role": "user", "content": "Zoë"}]}
results = []


def check(what, right, seen):
    results.append(bool(right))
    print(f"{'ok    ' if right else 'FAILED'} Python openai: {what}{'' if right else f': {seen!r}'}")


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{stand_in}/_stand_in/{path}", data, method=method), timeout=10) as answer:
        return json.load(answer)


def requests():
    return control("GET", "requests")["count"]


def error_of(call):
    try:
        return call()
    except openai.APIError as error:
        return error


completion = client.chat.completions.create(**asked)
said = completion.choices[0].message.content
check("a completion", "Zoë" in said and completion.usage.total_tokens > 0, completion)

chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
check("a stream says the same, in pieces", text == said and len(chunks) > 2, chunks)
check("its usage comes last", not chunks[-1].choices and chunks[-1].usage.total_tokens > 0, chunks[-1])

for stream in [False, True]:
    error = error_of(lambda: client.chat.completions.create(model="gpt-5", messages=[], stream=stream))
    right = isinstance(error, openai.BadRequestError) and error.code == "empty_array" and error.param == "messages"
    check(f"an error, stream={stream}", right and "empty array" in error.message, error)

before = requests()
control("POST", "behave", {"fail": {"status": 429, "times": 1, "headers": {"retry-after": "1"}}})
completion = client.chat.completions.create(**asked)
check("429 is tried again by the client", completion.choices and requests() - before == 2, requests() - before)

control("POST", "behave", {"fail": {"status": 429, "headers": {"retry-after": "1"}}})
error = error_of(lambda: client.with_options(max_retries=0).chat.completions.create(**asked))
right = isinstance(error, openai.RateLimitError) and error.response.headers["retry-after"] == "1"
check("429 says when to come again", right, error)
control("POST", "behave", {})

stranger = openai.OpenAI(base_url=proxy, api_key="nobody", max_retries=0)
error = error_of(lambda: stranger.chat.completions.create(**asked))
check("a stranger is refused", isinstance(error, openai.AuthenticationError), error)

print(f"python: {results.count(True)} passed, {results.count(False)} failed")
sys.exit(not all(results))
