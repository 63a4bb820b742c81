"""Signs and verifies requests with the package http-message-signatures, which is not ours.

A question on standard input, JSON: the request, and a key in PEM. `sign` answers the two headers, `verify` what was
covered, the digest of the body compared with the body; what does not verify is not answered.
"""

import datetime
import json
import sys
from types import SimpleNamespace

from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms

asked = json.load(sys.stdin)
request = SimpleNamespace(method=asked["method"], url=asked["url"], headers=asked["headers"])
algorithm = algorithms.ECDSA_P256_SHA256


class Keys(HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id):
        assert key_id == asked["keyid"], key_id
        return load_pem_public_key(asked["key"].encode())

    def resolve_private_key(self, key_id):
        return load_pem_private_key(asked["key"].encode(), password=None)


def at(seconds):
    return datetime.datetime.fromtimestamp(seconds)


if asked["do"] == "sign":
    signer = HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=Keys())
    signer.sign(
        request,
        key_id=asked["keyid"],
        created=at(asked["created"]),
        expires=at(asked["expires"]),
        nonce=asked["nonce"],
        tag=asked["tag"],
        covered_component_ids=asked["components"],
        body=asked["body"].encode(),
        use_existing_digest=True,
    )
    print(json.dumps({name.lower(): request.headers[name] for name in ("Signature-Input", "Signature")}))
else:
    verifier = HTTPMessageVerifier(signature_algorithm=algorithm, key_resolver=Keys())
    (result,) = verifier.verify(
        request,
        expect_tag=asked["tag"],
        max_age=datetime.timedelta(minutes=1),
        require_components=asked["components"],
        body=asked["body"].encode(),
    )
    print(json.dumps(asked["components"]))
