"""Fetch a rules file from S3 when its ETag has changed; run by the server as a process of its own.

    python -m inference.fetch_rules --uri s3://bucket/prefix/rules.json [--known ETAG]

One JSON line on stdout, `etag`, `is_new` and a `poll_url` for the server to poll by itself, then the file itself when
it is new; or `failed`, a message. `etag` is empty when there is no such object.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from inference.errors import FetchFailed
from inference.fetch_s3 import POLL_URL_SECONDS, open_client
from inference.rules import MAX_RULES_BYTES


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was found; a message instead of a traceback for everything that can go wrong outside."""
    parser = argparse.ArgumentParser(prog="python -m inference.fetch_rules", description="Fetch a rules file.")
    parser.add_argument("--uri", required=True)
    parser.add_argument("--known", default="")
    options = parser.parse_args(arguments)
    try:
        text, etag, poll_url = fetch_rules(options.uri, options.known)
    except FetchFailed as failure:
        print(json.dumps({"failed": str(failure)}))
        return
    head = {"etag": etag, "is_new": text is not None, "poll_url": poll_url}
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + (text or b""))


def fetch_rules(uri: str, known: str) -> tuple[bytes | None, str, str]:
    """Give the object, its ETag and a signed URL; (None, known, …) when it is unchanged, (None, "", …) without one."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client = open_client(uri)
    try:
        place = {"Bucket": bucket, "Key": key}
        poll_url = client.generate_presigned_url("get_object", Params=place, ExpiresIn=POLL_URL_SECONDS)
        try:
            if known:
                answer = client.get_object(Bucket=bucket, Key=key, IfNoneMatch=f'"{known}"')
            else:
                answer = client.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            if code in ("304", "NotModified"):
                return None, known, poll_url
            if code in ("NoSuchKey", "404"):
                return None, "", poll_url
            mend = "see to the bucket, the credentials and their policy"
            raise FetchFailed(f"{uri}: S3 answers {code}; {mend}") from error
        return answer["Body"].read(MAX_RULES_BYTES + 1), answer["ETag"].strip('"'), poll_url
    except BotoCoreError as error:
        raise FetchFailed(f"{uri}: {error}; see to the network, AWS_ENDPOINT_URL and the credentials") from error
    finally:
        client.close()


if __name__ == "__main__":
    main()
