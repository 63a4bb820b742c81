"""What the path validation of pyca/cryptography, made for the web's PKI, says of our TLS certificates.

Usage: verify_tls.py ROOT.der ISSUING.der (server|client):NAME:LEAF.der…   one line a leaf: `ok`, or why not
"""

import sys
from cryptography import x509
from cryptography.x509 import verification

certificates = {}


def read(path):
    if path not in certificates:
        with open(path, "rb") as file:
            certificates[path] = x509.load_der_x509_certificate(file.read())
    return certificates[path]


root, issuing, *leaves = sys.argv[1:]
builder = verification.PolicyBuilder().store(verification.Store([read(root)]))
for leaf in leaves:
    side, name, path = leaf.split(":")
    try:
        if side == "server":
            verifier = builder.build_server_verifier(x509.DNSName(name))
            verifier.verify(read(path), [read(issuing)])
        else:
            verified = builder.build_client_verifier().verify(read(path), [read(issuing)])
            names = [entry.value for entry in verified.subjects or []]
            assert not name or names == ["spiffe://" + name], names
        print("ok")
    except (verification.VerificationError, AssertionError) as error:
        print(f"{type(error).__name__}: {error}")
