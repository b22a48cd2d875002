"""Microsoft's clients for managed identities and Key Vault, driven from outside: one JSON line in, one out.

It shows what the clients do and return, and judges nothing: the tests that ask it do. Settings come as JSON in the first
argument. Used by tests/src/sandbox/python.rs; the packages are those of requirements.txt beside it.
"""

import json
import sys
import time

from azure.core.exceptions import AzureError, HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient


def shown(secret):
    """What a client got of a secret."""
    return {"value": secret.value, **described(secret.properties)}


def described(properties):
    """What is told of a secret."""
    return {
        "name": properties.name,
        "version": properties.version,
        "enabled": properties.enabled,
        "expires": properties.expires_on and properties.expires_on.timestamp(),
        "not_before": properties.not_before and properties.not_before.timestamp(),
        "content_type": properties.content_type,
        "tags": properties.tags,
    }


def in_pages(items):
    """A list, with the pages that it came in."""
    return [[described(item) for item in page] for page in items.by_page()]


def answer(client, credential, question):
    """Does what is asked."""
    what = question["do"]
    if what == "get":
        return shown(client.get_secret(question["name"], question.get("version")))
    if what == "list":
        return in_pages(client.list_properties_of_secrets(max_page_size=question.get("page")))
    if what == "versions":
        return in_pages(client.list_properties_of_secret_versions(question["name"], max_page_size=question.get("page")))
    if what == "deleted":
        return described(client.get_deleted_secret(question["name"]).properties)
    if what == "token":
        return credential.get_token("https://vault.azure.net/.default").expires_on
    raise ValueError(f"`{what}` is no question")


def failure(error):
    """What an exception says, and what the service said in it."""
    told = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, HttpResponseError):
        told["status"] = error.status_code
        if error.error is not None:
            told["code"] = error.error.code
            told["inner"] = (error.error.innererror or {}).get("code")
    return told


def main():
    settings = json.loads(sys.argv[1])
    credential = ManagedIdentityCredential(client_id=settings["client_id"])
    client = SecretClient(
        settings["vault"],
        credential,
        connection_verify=settings["ca"],
        verify_challenge_resource=settings["verify_challenge_resource"],
    )
    for line in sys.stdin:
        began = time.monotonic()
        try:
            told = {"value": answer(client, credential, json.loads(line))}
        except (AzureError, ValueError) as error:
            told = failure(error)
        told["seconds"] = time.monotonic() - began
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
