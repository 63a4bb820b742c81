#!/usr/bin/env python3
"""Verifies a receipt of a bank with nothing of Countersign's: this file, the `cryptography` package, the bank's root.

    python3 receipt.py receipt.json bank-root.pem [--witness-root secco-root.pem] [--oid-base OID]

The exact bytes are in docs/FORMATS.md. It prints what the receipt proves, or `refused: <name>` and exits with 3. With the
root of a witness, the security company, the witness must have cosigned.
"""
import argparse
import base64
import hashlib
import json
import sys
from datetime import datetime, timezone

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class Refused(Exception):
    pass


def must(condition, name):
    if not condition:
        raise Refused(name)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def unhex(text):
    """32 bytes: every hash, and a salt."""
    value = bytes.fromhex(text)
    must(value.hex() == text and len(value) == 32, "receipt_malformed")
    return value


def unbase64(text):
    value = base64.b64decode(text, validate=True)
    must(base64.b64encode(value).decode() == text, "receipt_malformed")
    return value


def refuse(text):
    raise Refused("receipt_malformed")


def number(text):
    must(abs(int(text)) < 1 << 53, "receipt_malformed")
    return int(text)


def read(text):
    """JSON with the numbers that our canonical form has."""
    return json.loads(text, parse_int=number, parse_float=refuse, parse_constant=refuse)


# What a receipt is made of: these members, of these types, and no others. True is no number here.
BATCH = {"chain": list, "count": int, "document": str, "index": int, "path": list, "signature": str}
LOG = {"body": str, "chain": list, "checkpoint": str, "commitment": str, "cosignatures": list, "leaf_index": int,
       "path": list, "salt": str}
COSIGNED = {"chain": list, "line": str}
RECEIPT = {"batch": dict, "log": dict, "schema": str, "statement": str}


def shaped(value, shape):
    must(type(value) is dict, "receipt_malformed")
    types = {name: type(one) for name, one in value.items()}
    must(types in (shape, shape | ({"note_type": str} if shape in (LOG, COSIGNED) else {})), "receipt_malformed")
    must(all(one >= 0 for one in value.values() if type(one) is int), "receipt_malformed")


def canonical(value):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def is_canonical(text):
    try:
        return canonical(read(text)) == text.encode()
    except ValueError:
        return False


def included(leaf, index, size, path, root):
    """RFC 9162, 2.1.3.2."""
    if index >= size:
        return False
    node, last, value = index, size - 1, leaf
    for sibling in map(unhex, path):
        if last == 0:
            return False
        if node & 1 or node == last:
            value = sha256(b"\1", sibling, value)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            value = sha256(b"\1", value, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and value == root


def signed(key, signature, message):
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        else:
            digest = hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()
            key.verify(signature, message, ec.ECDSA(digest))
        return True
    except InvalidSignature:
        return False


# Who may sign certificates, and as what: ecdsa-with-SHA256, ecdsa-with-SHA384, sha256WithRSAEncryption
IDENTIFIERS = {
    "P-256": "300a06082a8648ce3d040302", "P-384": "300a06082a8648ce3d040303", "RSA-3072": "300d06092a864886f70d01010b0500"
}
ORDERS = {
    "P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "P-384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}


def kind(key):
    """What a key is, of those that sign here."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA-3072" if key.key_size == 3072 and key.public_numbers().e == 65537 else None
    curves = {"secp256r1": "P-256", "secp384r1": "P-384"}
    return curves.get(key.curve.name) if isinstance(key, ec.EllipticCurvePublicKey) else None


def has_low_s(key, signature):
    """Of (r, s) and (r, n - s), which both verify, the one with the smaller s."""
    return kind(key) not in ORDERS or decode_dss_signature(signature)[1] * 2 < ORDERS[kind(key)]


def der(tag, content):
    length = len(content).to_bytes(4, "big").lstrip(b"\0") or b"\0"
    return bytes([tag]) + (length if len(content) < 128 else bytes([0x80 | len(length)]) + length) + content


def is_one_encoding(certificate, data, signers=tuple(IDENTIFIERS)):
    """The signature covers the inner part only; nothing around it may be written in another way."""
    tbs, signature = certificate.tbs_certificate_bytes, der(3, b"\0" + certificate.signature)
    known = [bytes.fromhex(IDENTIFIERS[one]) for one in signers if one in IDENTIFIERS]
    return any(der(0x30, tbs + one + signature) == data for one in known)


def extension(certificate, which):
    """Its value, and whether it is critical; none is neither."""
    try:
        found = certificate.extensions.get_extension_for_class(which)
        return found.value, found.critical
    except x509.ExtensionNotFound:
        return None, False


KNOWN = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage)
# Who may sign notes
NOTE_KEYS = ("Ed25519", "P-256")
# digitalSignature alone
SIGNING = x509.KeyUsage(True, *[False] * 8)


def certified(chain, root, purpose, at, not_before_too, kinds):
    """The key of a role, of one of these kinds: own certificate, issuing CA, root."""
    must(len(chain) == 3, "chain_length")
    encoded = [unbase64(one) for one in chain]
    must(encoded[2] == root, "chain_root_differs")
    own, issuing, last = map(x509.load_der_x509_certificate, encoded)
    must(all(map(is_one_encoding, (own, issuing, last), encoded)), "chain_certificate_malformed")
    issuers = (issuing, last, last)
    must(all(one.issuer == by.subject for one, by in zip((own, issuing, last), issuers)), "chain_issuer_differs")
    for certificate, issuer, data in zip((own, issuing, last), issuers, encoded):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, ValueError, TypeError):
            raise Refused("chain_signature_invalid")
        must(is_one_encoding(certificate, data, [kind(issuer.public_key())]), "chain_signature_invalid")
    for certificate in (own, issuing, last):
        critical = [one.value for one in certificate.extensions if one.critical]
        must(all(isinstance(one, KNOWN) for one in critical), "chain_critical_extension")
    for authority, below in ((issuing, 0), (last, 1)):
        constraints, is_critical = extension(authority, x509.BasicConstraints)
        usage, _ = extension(authority, x509.KeyUsage)
        is_ca = constraints and is_critical and constraints.ca and usage and usage.key_cert_sign
        must(is_ca and (constraints.path_length is None or constraints.path_length >= below), "chain_not_ca")
    constraints, _ = extension(own, x509.BasicConstraints)
    is_for_signing = extension(own, x509.KeyUsage)[0] == SIGNING and not (constraints and constraints.ca)
    must(is_for_signing, "chain_not_for_signing")
    uses, _ = extension(own, x509.ExtendedKeyUsage)
    must([use.dotted_string for use in uses or []] == [purpose], "chain_wrong_purpose")
    must(kind(own.public_key()) in kinds, "chain_key_type")
    for certificate in (own, issuing, last):
        begun = not not_before_too or certificate.not_valid_before_utc <= at.replace(microsecond=0)
        must(begun and at.replace(microsecond=0) <= certificate.not_valid_after_utc, "chain_not_valid_then")
    return own.public_key()


NOTE, COSIGNATURE = (b"\1", "countersign/note-p256/v1"), (b"\4", "countersign/cosignature-p256/v1")


def is_line_of(key, types, said, name, key_id, signature, message):
    """A signature in a note: of Ed25519 by C2SP's byte, of P-256 by a type of ours, which the file must say."""
    byte, ours = types
    if isinstance(key, ed25519.Ed25519PublicKey):
        kind, own, public = byte, None, key.public_bytes_raw()
    else:
        is_p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        must(is_p256, "chain_key_type")
        kind, own, public = b"\xff" + ours.encode(), ours, key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        if len(signature) != 64:
            return False
        signature = encode_dss_signature(*(int.from_bytes(part, "big") for part in (signature[:32], signature[32:])))
    must(said == own, "note_type_differs")
    return key_id == sha256(name.encode(), b"\n", kind, public)[:4] and signed(key, signature, message)


def cosigned(cosignatures, text, witness_root, oid_base):
    """Who has cosigned the checkpoint's text; with a root, one of them must lie under it."""
    must(len(cosignatures) <= 16, "cosignature_malformed")
    names, anchored = [], witness_root is None
    for one in cosignatures:
        shaped(one, COSIGNED)
        prefix, name, encoded = one["line"].split(" ")
        line = unbase64(encoded)
        seconds = int.from_bytes(line[4:12], "big")
        must(prefix == "\u2014" and len(line) > 12 and seconds < 1 << 33, "cosignature_malformed")
        must(len(one["chain"]) == 3, "chain_length")
        last, at = unbase64(one["chain"][2]), datetime.fromtimestamp(seconds, timezone.utc)
        key = certified(one["chain"], last, f"{oid_base}.2.2", at, True, NOTE_KEYS)
        message = f"cosignature/v1\ntime {seconds}\n{text}\n".encode()
        is_its = is_line_of(key, COSIGNATURE, one.get("note_type"), name, line[:4], line[12:], message)
        must(is_its, "cosignature_invalid")
        names.append(f"{name} at {at.isoformat()}")
        anchored = anchored or last == witness_root
    must(anchored, "cosignature_missing")
    return names


def part(text, name):
    """What a text in the receipt says, which has one writing."""
    must(is_canonical(text), name)
    return read(text)


def verify(data, root, oid_base, witness_root=None):
    must(len(data) <= 1 << 20, "receipt_too_large")
    try:
        receipt = read(data)
        shaped(receipt, RECEIPT)
        batch, log = receipt["batch"], receipt["log"]
        shaped(batch, BATCH)
        shaped(log, LOG)
    except (ValueError, KeyError, TypeError):
        raise Refused("receipt_malformed")
    must(canonical(receipt) + b"\n" == data, "receipt_not_canonical")
    must(receipt["schema"] == "countersign/receipt/v1", "receipt_unknown_schema")
    statement = part(receipt["statement"], "statement_not_canonical")
    at = datetime.fromisoformat(statement["posted_at"].replace("Z", "+00:00")).astimezone(timezone.utc)

    key = certified(batch["chain"], root, f"{oid_base}.2.3", at, True, IDENTIFIERS)
    document = part(batch["document"], "batch_document_malformed")
    must(document["schema"] == "countersign/batch/v1", "batch_document_malformed")
    is_known = document.get("signature", "low-s") == "low-s" and type(document["count"]) is int
    must(is_known, "batch_document_malformed")
    must(document["count"] == batch["count"], "batch_count_differs")
    message, signature = b"countersign/batch-root/v1\0" + batch["document"].encode(), unbase64(batch["signature"])
    must(signed(key, signature, message), "batch_signature_invalid")
    must("signature" not in document or has_low_s(key, signature), "batch_signature_invalid")
    leaf = sha256(b"\0", receipt["statement"].encode())
    batch_root = unhex(document["root"])
    must(included(leaf, batch["index"], batch["count"], batch["path"], batch_root), "statement_not_in_batch")

    body = part(log["body"], "body_malformed")
    result = body["result"]
    must(result["transaction_id"] == statement["transaction_id"], "body_names_another")
    this = sha256(receipt["statement"].encode()).hex()
    is_word = body.get("act") == "decide_approval" and result["status"] == "approved"
    posted = (result["status"] == "executed" or is_word) and result["repeated"] is False
    must(posted and result["statement_sha256"] == this, "body_not_this_posting")
    commitment = sha256(unhex(log["salt"]), log["body"].encode())
    must(commitment.hex() == log["commitment"], "commitment_differs")

    key = certified(log["chain"], root, f"{oid_base}.2.2", at, False, NOTE_KEYS)
    text, _, lines = log["checkpoint"].rpartition("\n\n")
    origin, size, tree_root = text.split("\n")
    must(lines.startswith("\u2014 ") and lines.count("\n") == 1, "checkpoint_malformed")
    name, encoded = lines[2:-1].split(" ")
    line = unbase64(encoded)
    is_its = is_line_of(key, NOTE, log.get("note_type"), origin, line[:4], line[4:], text.encode() + b"\n")
    must(name == origin and is_its, "checkpoint_signature_invalid")
    leaf = sha256(b"\0", b"countersign/leaf/v1\n", commitment)
    tree_root = unbase64(tree_root)
    must(included(leaf, log["leaf_index"], int(size), log["path"], tree_root), "leaf_not_in_log")
    witnesses = cosigned(log["cosignatures"], text, witness_root, oid_base)
    return statement, log["leaf_index"], origin, size, log.get("note_type", "ed25519"), witnesses


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("receipt", type=argparse.FileType("rb"))
    asked.add_argument("root", type=argparse.FileType("rb"))
    asked.add_argument("--witness-root", type=argparse.FileType("rb"))
    asked.add_argument("--oid-base", default="1.3.6.1.4.1.32473")
    asked = asked.parse_args()

    def root_in(file):
        return x509.load_pem_x509_certificate(file.read()).public_bytes(Encoding.DER)

    data, oid_base = asked.receipt.read((1 << 20) + 1), asked.oid_base
    root, witness_root = root_in(asked.root), asked.witness_root and root_in(asked.witness_root)
    try:
        statement, index, origin, size, signature_type, witnesses = verify(data, root, oid_base, witness_root)
    except Refused as refused:
        print(f"refused: {refused}")
        sys.exit(3)
    except Exception as error:  # whatever cannot be read is no receipt
        print(f"refused: receipt_malformed ({type(error).__name__})")
        sys.exit(3)
    print(f"valid: leaf {index} of {size} in {origin}, a checkpoint signed with {signature_type}")
    for witness in witnesses:
        print(f"cosigned by {witness}" + ("" if witness_root else " (its root is not known here)"))
    print(json.dumps(statement, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
