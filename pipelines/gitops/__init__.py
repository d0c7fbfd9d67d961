"""Hold the manifests below gitops/ against what a cluster accepts and what the code expects: `make validate-gitops`.

python -m pipelines.gitops.validate [--root gitops] [--crd-schemas DIR]
"""
