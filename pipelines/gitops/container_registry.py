"""Ask a container registry which digest a tag has, by the distribution API that every registry speaks."""

import base64
import re

import requests

from pipelines.errors import TryAgainError, UsageError
from pipelines.gitops.rules.images import Reference

ECR = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?")
LOCAL = re.compile(r"(localhost|127\.0\.0\.1)(:\d+)?")
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
TIMEOUT_SECONDS = 20


def digest_of(reference: Reference) -> str:
    """Give the digest that the registry has for a tag; UsageError when it has no such tag, or does not let us ask."""
    host, _, name = reference.repository.partition("/")
    scheme = "http" if LOCAL.fullmatch(host) else "https"
    url = f"{scheme}://{host}/v2/{name}/manifests/{reference.tag}"
    headers = {"Accept": MANIFESTS} | _authorization(host)
    try:
        answer = requests.head(url, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=True)
    except requests.RequestException as error:
        raise TryAgainError(
            f"{host} did not answer ({type(error).__name__}); leave out --verify, or try again"
        ) from error
    if answer.status_code == 404:
        raise UsageError(f"{host} has no {name}:{reference.tag}; take a tag that a build has pushed")
    if answer.status_code in (401, 403):
        raise UsageError(
            f"{host} does not let you read {name} ({answer.status_code}); log in, as ECR_CONFIGURATION.md says"
        )
    digest = answer.headers.get("Docker-Content-Digest", "")
    if not answer.ok or not digest:
        raise TryAgainError(f"{url} answered {answer.status_code} without a digest; try again")
    return digest


def _authorization(host: str) -> dict[str, str]:
    """Log in to ECR with the caller's AWS credentials; other registries are asked without any."""
    match = ECR.fullmatch(host)
    if match is None:
        return {}
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.client("ecr", region_name=match["region"])
        token = client.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    except (BotoCoreError, ClientError) as error:
        raise UsageError(
            f"AWS gives no login for {host} ({error}); set AWS_PROFILE, and see that {host} is your own: "
            "`make gitops-configure` writes it"
        ) from error
    base64.b64decode(token, validate=True)
    return {"Authorization": f"Basic {token}"}
