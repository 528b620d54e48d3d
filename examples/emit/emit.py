"""Tells a user that an analysis is complete:  python3 emit.py demo"""
import json
import os
import sys
import urllib.error
import urllib.request

URL = os.environ.get("SOCKRING_URL", "http://localhost:8080")


def emit(user, event, data):
    request = urllib.request.Request(
        f"{URL}/api/v1/websocket/emit",
        data=json.dumps({"user": user, "event": event, "data": data}).encode(),
        headers={"content-type": "application/json", "x-api-key": os.environ.get("API_KEY", "")},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)["data"]["delivered"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{error.code} {json.load(error)['message']}") from None


user = sys.argv[1] if len(sys.argv) > 1 else "demo"
print("delivered:", emit(user, "analysis:completed", {"interviewId": "42", "score": 0.75}))
