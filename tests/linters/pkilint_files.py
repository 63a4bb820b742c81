"""Runs pkilint over many files in one process and prints what it finds, one JSON object a file.

Usage: pkilint_files.py FILE…   (*.der: a certificate, *.crl: a revocation list in DER; ISSUER.der:SUBJECT.der: a pair)

The validators are those of pkilint's own commands lint_pkix_cert, lint_crl (-p PKIX -t CRL) and
lint_pkix_signer_signee_cert_chain; a process of its own for each file would take a second and a half.
"""

import json
import sys

from pkilint import loader, pkix
from pkilint.bin import lint_pkix_signer_signee_cert_chain as chain
from pkilint.pkix import certificate, crl, extension, name

CERTIFICATE = certificate.create_pkix_certificate_validator_container(
    certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
    [
        certificate.create_issuer_validator_container([]),
        certificate.create_validity_validator_container(),
        certificate.create_subject_validator_container([]),
        certificate.create_extensions_validator_container([]),
        certificate.create_spki_validator_container([]),
    ],
)
LIST = crl.create_pkix_crl_validator_container(
    [
        pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
        pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
    ],
    [
        crl.create_issuer_validator_container([]),
        crl.create_validity_validator_container([]),
        crl.create_extensions_validator_container([]),
    ],
)


def certificate_of(path, role=None, documents=None):
    with open(path, "rb") as file:
        return loader.RFC5280CertificateDocumentLoader().load_document(file.read(), path, role, documents)


def lint(subject):
    if ":" in subject:
        documents = {}
        issuer_path, subject_path = subject.split(":")
        for role, path in (("issuer", issuer_path), ("subject", subject_path)):
            documents[role] = certificate_of(path, role, documents)
        results = []
        for document in documents.values():
            results += chain.create_decoder_validation_container().validate(document.root)
        results += chain.create_issuer_validation_container().validate(documents["issuer"].root)
        results += chain.create_subject_validation_container().validate(documents["subject"].root)
        return results
    if subject.endswith(".crl"):
        with open(subject, "rb") as file:
            document = loader.RFC5280CertificateListDocumentLoader().load_document(file.read(), subject)
        return LIST.validate(document.root)
    return CERTIFICATE.validate(certificate_of(subject).root)


for subject in sys.argv[1:]:
    try:
        results = lint(subject)
        findings = [
            {
                "severity": found.finding.severity.name,
                "code": found.finding.code,
                "message": found.message or "",
                "at": result.node.path,
            }
            for result in results
            for found in result.finding_descriptions
        ]
    except Exception as error:  # whatever it cannot even read is a finding
        findings = [{"severity": "FATAL", "code": "unreadable", "message": str(error), "at": ""}]
    print(json.dumps({"file": subject, "findings": findings}))
