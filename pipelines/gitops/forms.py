"""What the values must look like that are yours: repository, registry, account, region, bucket."""

# What each value must look like, and what is said of one that does not.
FORMS = {
    "REPO": (r"(https://|ssh://|git@)\S+[^/\s]", "is no address of a repository; give https://… or git@…"),
    "REGISTRY": (
        r"[a-z0-9.-]+(:\d+)?(/[a-z0-9]+([._/-][a-z0-9]+)*)?",
        "is not HOST or HOST/PREFIX, without https://",
    ),
    "ACCOUNT": (r"\d{12}", "is no AWS account; they have 12 digits"),
    "REGION": (r"[a-z]{2}(-[a-z]+)+-\d", "is no AWS region, such as eu-central-1"),
    "BUCKET": (r"[a-z0-9][a-z0-9.-]*", "cannot begin a bucket's name: lower-case letters, digits, '-' and '.'"),
}
