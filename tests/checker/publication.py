"""Reads a revocation list and an OCSP answer with Python's cryptography: shares no code with the product.

publication.py LIST ANSWER ISSUING_PEM PLACE STATUS
"""

import sys

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp


def main(list_path, answer_path, issuing_path, place, status):
    issuing = x509.load_pem_x509_certificate(open(issuing_path, "rb").read())
    revocations = x509.load_der_x509_crl(open(list_path, "rb").read())
    assert revocations.is_signature_valid(issuing.public_key())
    assert revocations.issuer == issuing.subject
    number = revocations.extensions.get_extension_for_class(x509.CRLNumber)
    assert not number.critical and number.value.crl_number > 0
    point = revocations.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert point.critical and point.value.only_contains_user_certs and not point.value.only_contains_ca_certs
    assert not point.value.indirect_crl and point.value.only_some_reasons is None
    assert [name.value for name in point.value.full_name] == [place]
    authority = revocations.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert authority.key_identifier == own.digest
    assert len(revocations.extensions) == 3

    answer = ocsp.load_der_ocsp_response(open(answer_path, "rb").read())
    assert answer.response_status == ocsp.OCSPResponseStatus.SUCCESSFUL
    assert answer.certificate_status.name == status, answer.certificate_status
    assert answer.this_update_utc < answer.next_update_utc
    signer = answer.certificates[0]
    signer.verify_directly_issued_by(issuing)
    assert answer.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(signer.public_key()).digest
    signer.public_key().verify(
        answer.signature, answer.tbs_response_bytes, ec.ECDSA(answer.signature_hash_algorithm)
    )
    listed = revocations.get_revoked_certificate_by_serial_number(answer.serial_number)
    assert (listed is not None) == (status == "REVOKED")
    if listed is not None:
        assert answer.revocation_reason == x509.ReasonFlags.key_compromise
        assert listed.extensions.get_extension_for_class(x509.CRLReason).value.reason == answer.revocation_reason
        assert answer.revocation_time_utc == listed.revocation_date_utc


if __name__ == "__main__":
    main(*sys.argv[1:])
