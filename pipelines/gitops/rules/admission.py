"""Do the admission policies refuse anything: bound by their name, with Deny, and when they cannot be evaluated?"""

from collections.abc import Iterator, Sequence

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Rendered, Tree, label, name_of

POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"


def check_admission(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check the policies of one build, and that each is bound."""
    policies = {name_of(document): document for document in rendered.of_kind(POLICY)}
    bound = {str(binding["spec"].get("policyName")) for binding in rendered.of_kind(BINDING)}
    for binding in rendered.of_kind(BINDING):
        file, spec = tree.shown(rendered.file_of(binding)), binding["spec"]
        if spec.get("policyName") not in policies:
            what = f"names {spec.get('policyName')}, which is not there: nothing is refused"
            there = f"there are: {', '.join(sorted(policies)) or 'none'}"
            yield Finding(file, f"{label(binding)}.spec.policyName", what, there)
        if "Deny" not in spec.get("validationActions", []):
            what = "has no Deny: what the policy refuses is let in all the same"
            yield Finding(file, f"{label(binding)}.spec.validationActions", what, "add Deny")
    for name, policy in policies.items():
        file = tree.shown(rendered.file_of(policy))
        if name not in bound:
            what = "is bound to nothing, and so does nothing"
            yield Finding(file, label(policy), what, f"add a {BINDING} with policyName: {name}")
        if policy["spec"].get("failurePolicy", "Fail") != "Fail":
            what = "lets everything in when the policy cannot be evaluated"
            yield Finding(file, f"{label(policy)}.spec.failurePolicy", what, "set it to Fail")


def check_bound(tree: Tree, every: Sequence[Rendered]) -> Iterator[Finding]:
    """Check that the namespaces of the overlays have the labels by which admission policies are bound."""
    bindings = [binding for rendered in every for binding in rendered.of_kind(BINDING)]
    for rendered in every:
        for namespace in rendered.of_kind("Namespace") if rendered.folder.parent.name == "overlays" else ():
            labels = namespace["metadata"].get("labels", {})
            for binding in bindings:
                selector = (binding["spec"].get("matchResources") or {}).get("namespaceSelector") or {}
                for key, value in (selector.get("matchLabels") or {}).items():
                    if labels.get(key) != value:
                        file, where = tree.shown(rendered.file_of(namespace)), f"{label(namespace)}.metadata.labels"
                        what = f"is missing: {label(binding)} does not look at this namespace"
                        yield Finding(file, f"{where}[{key}]", what, f"set {key}: {value}")
