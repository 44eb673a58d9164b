// OpenAI's JavaScript client through a running proxy: `openai.mjs PROXY OPENAI`, the proxy's token in APP_TOKEN. OPENAI is the stand-in, which is told how
// to misbehave. What the client makes of the answers must be what it makes of OpenAI's own.
import OpenAI from 'openai'

const [proxy, standIn] = process.argv.slice(2)
const client = new OpenAI({ baseURL: proxy, apiKey: process.env.APP_TOKEN, maxRetries: 2 })
const asked = { model: 'gpt-5', messages: [{ role: 'user', content: 'Zoë' }] }
const results = []

function check(what, right, seen) {
  results.push(Boolean(right))
  console.log(`${right ? 'ok    ' : 'FAILED'} JavaScript openai: ${what}`, ...(right ? [] : [seen]))
}

async function control(method, path, body) {
  const answer = await fetch(`${standIn}/_stand_in/${path}`, { method, body: body && JSON.stringify(body) })
  return await answer.json()
}

const requests = async () => (await control('GET', 'requests')).count
const errorOf = (promise) => promise.catch((error) => error)

const completion = await client.chat.completions.create(asked)
const said = completion.choices[0].message.content
check('a completion', said.includes('Zoë') && completion.usage.total_tokens > 0, completion)

const chunks = []
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } })) chunks.push(chunk)
const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')
check('a stream says the same, in pieces', text === said && chunks.length > 2, chunks)
check('its usage comes last', chunks.at(-1).choices.length === 0 && chunks.at(-1).usage.total_tokens > 0, chunks.at(-1))

for (const stream of [false, true]) {
  const error = await errorOf(client.chat.completions.create({ model: 'gpt-5', messages: [], stream }))
  const right = error instanceof OpenAI.BadRequestError && error.code === 'empty_array' && error.param === 'messages'
  check(`an error, stream: ${stream}`, right && error.message.includes('empty array'), error)
}

const before = await requests()
await control('POST', 'behave', { fail: { status: 429, times: 1, headers: { 'retry-after': '1' } } })
const again = await client.chat.completions.create(asked)
check('429 is tried again by the client', again.choices.length === 1 && (await requests()) - before === 2, again)

await control('POST', 'behave', { fail: { status: 429, headers: { 'retry-after': '1' } } })
const limited = await errorOf(client.chat.completions.create(asked, { maxRetries: 0 }))
check('429 says when to come again', limited instanceof OpenAI.RateLimitError && limited.headers.get('retry-after') === '1', limited)
await control('POST', 'behave', {})

const stranger = new OpenAI({ baseURL: proxy, apiKey: 'nobody', maxRetries: 0 })
const refused = await errorOf(stranger.chat.completions.create(asked))
check('a stranger is refused', refused instanceof OpenAI.AuthenticationError, refused)

const failed = results.filter((right) => !right).length
console.log(`javascript: ${results.length - failed} passed, ${failed} failed`)
process.exitCode = failed ? 1 : 0
