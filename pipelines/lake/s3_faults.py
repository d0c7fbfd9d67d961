"""What the answers of S3 mean for a lake, and how people mend them."""

from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnection

from pipelines.errors import LakeConflict, LakeFull, LakeKeyMissing, LakeRefused, LakeUnreachable, PipelineError

CREDENTIALS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the pod's service account"
REFUSED = {
    "InvalidAccessKeyId": f"the access key is not known there; {CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key does not fit the access key; {CREDENTIALS}",
    "ExpiredToken": "the session token has expired; get new credentials",
    "InvalidToken": f"the session token is not valid; {CREDENTIALS}",
    "RequestTimeTooSkewed": "this machine's clock differs from the server's by too much; set the clock",
    "AuthorizationHeaderMalformed": "the region is wrong; set AWS_REGION to the bucket's",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION to the bucket's",
    "InvalidBucketName": "this is no bucket name",
    "AccessDenied": "the policy does not allow it; a lake needs s3:ListBucket, and s3:Get, Put and DeleteObject",
}
FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}


@contextmanager
def s3_errors_explained(where: str, *, bucket: str, endpoint: str) -> Iterator[None]:
    """Turn boto3's errors into errors of the lake; bugs, such as a wrong argument, pass."""
    try:
        yield
    except Boto3Error as error:  # of transfers; what happened is what it was raised from
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ClientError | BotoCoreError):
            raise _explain(cause, where, bucket, endpoint) from cause
        raise LakeUnreachable(f"the transfer of {where} broke off: {error}; run again") from error
    except (ClientError, BotoCoreError) as error:
        raise _explain(error, where, bucket, endpoint) from error
    except ValueError as error:
        if "endpoint" not in str(error).lower():
            raise
        raise LakeRefused(f"{error}; AWS_ENDPOINT_URL looks like https://host:port, or is not set for AWS") from error


def status_of(error: BaseException) -> int | None:
    """Give the HTTP status of an error that S3 answered."""
    if isinstance(error, ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return None


def _explain(error: ClientError | BotoCoreError, where: str, bucket: str, endpoint: str) -> PipelineError:
    if isinstance(error, ClientError):
        return _explain_answer(error, where, bucket, endpoint)
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError | ProfileNotFound):
        return LakeRefused(f"cannot use {where}: no AWS credentials were found ({error}); {CREDENTIALS}")
    if isinstance(error, SSLError):
        return LakeRefused(f"cannot use {where}: {error}; check the scheme of {endpoint} and AWS_CA_BUNDLE")
    if isinstance(error, HTTPClientError | NoConnection):
        return LakeUnreachable(
            f"cannot reach {endpoint} for {where}: {error}; check the network and AWS_ENDPOINT_URL, then run again"
        )
    return LakeUnreachable(f"cannot use {where}: {error}; run again")


def _explain_answer(error: ClientError, where: str, bucket: str, endpoint: str) -> PipelineError:
    answer = error.response.get("Error", {})
    code, status = str(answer.get("Code", "")), status_of(error)
    said = f"{endpoint} answered {status} {code}"
    if code == "NoSuchBucket":
        return LakeRefused(
            f"the bucket {bucket!r} does not exist ({said}); create it (aws s3 mb s3://{bucket}) or correct --lake"
        )
    if code in ("NoSuchKey", "404"):
        return LakeKeyMissing(f"{where} does not exist; run the step that writes it first")
    if code in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
        return LakeConflict(f"{where} was written by another run in between; read it and decide again")
    if code in FULL or status == 507:
        return LakeFull(f"no space is left for {where} ({said}); free some or raise the quota, then run again")
    if code in REFUSED:
        return LakeRefused(f"cannot use {where}: {REFUSED[code]} ({said})")
    if status in (401, 403):
        return LakeRefused(f"cannot use {where}: {REFUSED['AccessDenied']} ({said})")
    reason = answer.get("Message", "no reason given")
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return LakeRefused(f"{endpoint} refused {error.operation_name} of {where}: {status} {code}: {reason}")
    return LakeUnreachable(f"{endpoint} failed at {error.operation_name} of {where}: {status} {code}; run again")
