"""The registry in the lake: immutable bundles, the champion pointer, and who moved it when and why.

registry/contents/{version}.json        hashes of all that will be uploaded under the version, written first
registry/bundles/{version}/…            sealed files, manifest.json last
registry/evaluations/{version}/…        the model as it was evaluated
registry/champion.json                  {"version", "number", "action", "previous", "promoted_at", "who", "why"}
registry/audit/{number}-{version}.json  one move of the champion each, never rewritten
registry/pruned/{version}.json          who deleted the version, when and why

python -m pipelines.registry list --lake ./lake
python -m pipelines.registry rollback --lake ./lake --reason "returns went up"
python -m pipelines.registry prune --lake ./lake --keep 10 --dry-run
"""
