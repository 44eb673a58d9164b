// Signs with the official JavaScript packages and posts to a running server: `send.mjs URL`, the secret in CLERK_WEBHOOK_SECRET.
// Each package must be accepted, its duplicate acknowledged, and a body changed after signing refused.
import { randomUUID } from 'node:crypto'
import { Webhook as StandardWebhook } from 'standardwebhooks'
import { Webhook as SvixWebhook } from 'svix'

async function post(url, headers, body) {
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body })
  return `${answer.status} ${await answer.text()}`
}

/** Whether each check came out right. */
async function send(url, name, webhook, prefix) {
  const [message, now] = [`msg_${randomUUID()}`, new Date()]
  const body = JSON.stringify({ type: 'user.created', object: 'event', data: { id: `user_${randomUUID()}`, first_name: 'Zoë' } })
  const headers = {
    [`${prefix}-id`]: message,
    [`${prefix}-timestamp`]: String(Math.floor(now / 1000)),
    [`${prefix}-signature`]: webhook.sign(message, now, body),
  }
  const changed = await post(url, headers, body.replace('Zoë', 'Eve'))
  const checks = {
    'a changed body is refused': changed.startsWith('401 ') && changed.includes('"INVALID_SIGNATURE"'),
    'a delivery is accepted': (await post(url, headers, body)) === '200 {"received":true}',
    'its duplicate is acknowledged': (await post(url, headers, body)) === '200 {"received":true}',
  }
  for (const [check, right] of Object.entries(checks)) console.log(`${right ? 'ok    ' : 'FAILED'} JavaScript ${name}: ${check}`)
  return Object.values(checks)
}

const [url, secret] = [process.argv[2], process.env.CLERK_WEBHOOK_SECRET]
const results = [
  ...(await send(url, 'svix', new SvixWebhook(secret), 'svix')),
  ...(await send(url, 'standardwebhooks', new StandardWebhook(secret), 'webhook')),
]
const failed = results.filter((right) => !right).length
console.log(`javascript: ${results.length - failed} passed, ${failed} failed`)
process.exitCode = failed ? 1 : 0
