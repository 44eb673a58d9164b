"""Signs with the official Python packages and posts to a running server: `send.py URL`, the secret in CLERK_WEBHOOK_SECRET.
Each package must be accepted, its duplicate acknowledged, and a body changed after signing refused."""

import json
import os
import sys
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timezone

import standardwebhooks
import svix

RECEIVED = '200 {"received":true}'


def post(url, headers, body):
    request = urllib.request.Request(url, body.encode(), {"content-type": "application/json", **headers}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return f"{answer.status} {answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"


def send(url, name, webhook, prefix):
    """Whether each check came out right."""
    message, now = f"msg_{uuid.uuid4().hex}", datetime.now(timezone.utc)
    user = {"id": f"user_{uuid.uuid4().hex}", "first_name": "Zoë"}
    body = json.dumps({"type": "user.created", "object": "event", "data": user}, ensure_ascii=False)
    headers = {
        f"{prefix}-id": message,
        f"{prefix}-timestamp": str(int(now.timestamp())),
        f"{prefix}-signature": webhook.sign(message, now, body),
    }
    changed = post(url, headers, body.replace("Zoë", "Eve"))
    checks = {
        "a changed body is refused": changed.startswith("401 ") and '"INVALID_SIGNATURE"' in changed,
        "a delivery is accepted": post(url, headers, body) == RECEIVED,
        "its duplicate is acknowledged": post(url, headers, body) == RECEIVED,
    }
    for check, right in checks.items():
        print(f"{'ok    ' if right else 'FAILED'} Python {name}: {check}")
    return list(checks.values())


url, secret = sys.argv[1], os.environ["CLERK_WEBHOOK_SECRET"]
results = send(url, "svix", svix.Webhook(secret), "svix")
results += send(url, "standardwebhooks", standardwebhooks.Webhook(secret), "webhook")
print(f"python: {results.count(True)} passed, {results.count(False)} failed")
sys.exit(not all(results))
