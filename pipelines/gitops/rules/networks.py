"""Does a policy that denies everything leave open what the pods need: DNS, S3 and, for workflows, the API server?"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Document, Rendered, Tree, label
from pipelines.gitops.workloads import WORKFLOW_KINDS

# S3, STS and EKS' API server are all reached on 443.
NEEDED = ((53, "UDP", "DNS"), (53, "TCP", "DNS with long answers"), (443, "TCP", "S3, STS and the API server"))
Network = IPv4Network | IPv6Network
METADATA_SERVICE = "169.254.169.254/32"


def check_networks(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check the openings of an overlay that denies egress by default."""
    policies = rendered.of_kind("NetworkPolicy")
    for policy in policies:
        for rule in policy["spec"].get("ingress") or []:
            if not rule.get("from"):
                what = "has a rule without from: anybody may come in"
                where = f"{label(policy)}.spec.ingress"
                yield Finding(tree.shown(rendered.file_of(policy)), where, what, "name who may: from")
    denying = [policy for policy in policies if _denies_egress(policy)]
    if not denying:
        if rendered.of_kind("Deployment", *WORKFLOW_KINDS) and rendered.folder.parent.name == "overlays":
            what = "has no NetworkPolicy that denies egress by default: a pod may talk to anything"
            yield Finding(tree.shown(rendered.file), "resources", what, "add default-deny, and openings by name")
        return
    openings = [rule for policy in policies for rule in policy["spec"].get("egress", [])]
    file = tree.shown(rendered.file_of(denying[0]))
    for port, protocol, what_for in NEEDED:
        if not any(_opens(rule, port, protocol) for rule in openings):
            yield Finding(
                file,
                f"{label(denying[0])}.spec.egress",
                f"denies everything, and nothing opens {port}/{protocol}: no {what_for}",
                f"add a NetworkPolicy that opens {port}/{protocol}",
            )
    for rule in openings:
        for peer in rule.get("to", []):
            if not peer:
                what = "has an empty peer: the API server refuses it"
                yield Finding(file, "NetworkPolicy egress to", what, "name a namespaceSelector, podSelector or ipBlock")
            block = peer.get("ipBlock") or {}
            if fault := _block_fault(block):
                yield Finding(file, "NetworkPolicy egress ipBlock", f"{fault}: the API server refuses it", "correct it")
            elif block.get("cidr") == "0.0.0.0/0" and METADATA_SERVICE not in block.get("except", []):
                what = "opens the instance metadata service, which lends the node's role to any pod"
                yield Finding(file, "NetworkPolicy egress 0.0.0.0/0", what, f"except {METADATA_SERVICE}")


def _denies_egress(policy: Document) -> bool:
    spec = policy["spec"]
    return spec.get("podSelector") == {} and "Egress" in spec.get("policyTypes", []) and not spec.get("egress")


def _block_fault(block: Mapping[str, Any]) -> str:
    """Say what is wrong with an ipBlock, empty when nothing is: `except` must lie inside `cidr`."""
    try:
        whole = ip_network(str(block.get("cidr", "0.0.0.0/0")))
        outside = [one for one in block.get("except", []) if not _is_inside(one, whole)]
    except ValueError as error:
        return str(error)
    return f"{', '.join(outside)} is outside {whole}" if outside else ""


def _is_inside(block: str, whole: Network) -> bool:
    one = ip_network(block)
    return one.version == whole.version and one.subnet_of(whole)  # type: ignore[arg-type]


def _opens(rule: Mapping[str, Any], port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return not ports or any(p.get("port") == port and p.get("protocol", "TCP") == protocol for p in ports)
