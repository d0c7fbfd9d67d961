"""A registry in a bucket, through boto3; imported only in the short-lived fetch process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.cache import CHAMPION_NAME
from inference.errors import FetchFailed
from inference.origin import Missing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# How long the server may poll by itself before it asks this process again; credentials may end sooner, and then it
# asks at that time.
POLL_URL_SECONDS = 6 * 3600


class Bucket:
    """A prefix of a bucket that holds a registry."""

    def __init__(self, client: "S3Client", uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self._client, self._bucket = client, bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._etags: dict[str, str] = {}

    def is_bundle(self) -> bool:
        """Say no: in S3 a registry is followed."""
        return False

    def where(self, name: str) -> str:
        """Give the URI."""
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def read(self, name: str, max_bytes: int) -> bytes:
        """Read a small object."""
        with self._named(name):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            self._etags[name] = answer["ETag"].strip('"')
            return answer["Body"].read(max_bytes + 1)

    def state(self, name: str) -> str:
        """Give the champion's ETag: bundles in a registry are never changed, and a look at each poll has its price."""
        del name
        return self._etags[CHAMPION_NAME]

    def copy(self, name: str, target: Path) -> None:
        """Download an object."""
        from boto3.s3.transfer import TransferConfig

        with self._named(name):
            few = TransferConfig(max_concurrency=2)  # each holds 8 MiB
            self._client.download_file(self._bucket, self._prefix + name, str(target), Config=few)

    def poll_facts(self) -> dict[str, Any]:
        """Sign a request for the champion that the server may send by itself."""
        place = {"Bucket": self._bucket, "Key": self._prefix + CHAMPION_NAME}
        url = self._client.generate_presigned_url("get_object", Params=place, ExpiresIn=POLL_URL_SECONDS)
        return {"poll_url": url, "etag": self._etags[CHAMPION_NAME]}

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        from botocore.exceptions import ClientError

        try:
            yield
        except ClientError as error:
            if name != CHAMPION_NAME and error.response["Error"].get("Code") in ("NoSuchKey", "404"):
                raise Missing(self.where(name)) from error
            raise


def open_client(uri: str) -> "S3Client":
    """Open S3 with patience that suits a poll; FetchFailed when the settings do not describe a client."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=5, read_timeout=30, retries={"mode": "standard", "max_attempts": 3}, signature_version="s3v4"
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise FetchFailed(f"{uri}: {error}; see to AWS_ENDPOINT_URL, AWS_REGION and the profile") from error


@contextlib.contextmanager
def open_bucket(uri: str) -> Iterator[Bucket]:
    """Open a registry in S3; what S3 says against it becomes FetchFailed with what to do."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = open_client(uri)
    try:
        yield Bucket(client, uri)
    except ClientError as error:
        code, mend = error.response["Error"].get("Code", ""), "see to the bucket, the credentials and their policy"
        if code in ("NoSuchKey", "404"):
            mend = "a run of the pipeline that beats its rules makes a champion (see the reasons of the last one)"
        raise FetchFailed(f"{uri}: S3 answers {code} ({error.operation_name}); {mend}") from error
    except BotoCoreError as error:
        raise FetchFailed(f"{uri}: {error}; see to the network, AWS_ENDPOINT_URL and the credentials") from error
    finally:
        client.close()
