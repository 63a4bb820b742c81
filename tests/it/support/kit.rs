//! A party in memory that composes and signs certificates of every profile, as the product composes them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use countersign::kernel::credential::compose::{AgentPlan, CertificatePlan, OperatorPlan, tbs_certificate};
use countersign::kernel::credential::der;
use countersign::kernel::credential::oid::OidBase;
use countersign::kernel::credential::profile::{BACKDATE_MS, IssuedBy, Profile};
use countersign::kernel::sign::{Algorithm, spki_der};
use countersign::kernel::status::CustodyLevel;
use countersign::kernel::types::{Serial, Sha256};
use countersign::ops::clock;

pub const BASE_URL: &str = "http://pki.countersign.example";

pub fn base() -> OidBase {
    "1.3.6.1.4.1.32473".parse().unwrap()
}

/// A key pair in memory.
pub enum Key {
    Ecdsa(Algorithm, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Key {
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::P256 => Self::Ecdsa(algorithm, EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()),
            Algorithm::P384 => Self::Ecdsa(algorithm, EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap()),
            Algorithm::Ed25519 => Self::Ed25519(Ed25519KeyPair::generate().unwrap()),
            Algorithm::Rsa3072 => Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa3072).unwrap())),
            Algorithm::Aes256 => panic!("AES keys have no certificates"),
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ecdsa(algorithm, _) => *algorithm,
            Self::Ed25519(_) => Algorithm::Ed25519,
            Self::Rsa(_) => Algorithm::Rsa3072,
        }
    }

    pub fn spki(&self) -> Vec<u8> {
        let public = match self {
            Self::Ecdsa(_, pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
            Self::Rsa(pair) => pair.public_key().as_ref(),
        };
        spki_der(self.algorithm(), public)
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ecdsa(_, pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
        }
    }
}

/// Root and issuing CA of a party.
pub struct Kit {
    root_key: Key,
    issuing_key: Key,
    pub root: Vec<u8>,
    pub issuing: Vec<u8>,
}

impl Kit {
    /// CAs with keys of this algorithm.
    pub fn new(algorithm: Algorithm) -> Self {
        let (root_key, issuing_key) = (Key::new(algorithm), Key::new(algorithm));
        let mut kit = Self { root_key, issuing_key, root: Vec::new(), issuing: Vec::new() };
        kit.root = kit.certificate(Profile::Root, &kit.root_key);
        kit.issuing = kit.certificate(Profile::Issuing, &kit.issuing_key);
        kit
    }

    /// A certificate over this key.
    pub fn certificate(&self, profile: Profile, key: &Key) -> Vec<u8> {
        self.certificate_of("alice", profile, key)
    }

    /// The same; `person` is whose it is, where it is a person's.
    pub fn certificate_of(&self, person: &str, profile: Profile, key: &Key) -> Vec<u8> {
        let tbs = self.tbs_over(person, profile, key);
        let signer = match profile.table().issuer {
            IssuedBy::Itself | IssuedBy::Root => &self.root_key,
            IssuedBy::Issuing => &self.issuing_key,
        };
        let identifier = signer.algorithm().signature_identifier().unwrap();
        der::sequence(&[&tbs, identifier, &der::bit_string(&signer.sign(&tbs))])
    }

    /// What is signed, over a fresh key of the profile's first algorithm.
    pub fn tbs(&self, profile: Profile) -> Vec<u8> {
        self.tbs_over("alice", profile, &Key::new(profile.algorithms()[0]))
    }

    fn tbs_over(&self, person: &str, profile: Profile, key: &Key) -> Vec<u8> {
        let mut serial = clock::random::<16>();
        serial[0] = (serial[0] & 0x3f) | 0x40;
        let now = clock::now();
        let bound_to = (profile == Profile::AgentB).then(|| Sha256::of(&[b"S"]));
        let plan = CertificatePlan {
            profile,
            organization: Some("bank".into()),
            common_name: if profile.is_agent() { "shopper".into() } else { format!("{} v1", profile.name()) },
            spki: key.spki(),
            serial: Serial::from_bytes(&serial).unwrap(),
            not_before: now.plus_ms(-BACKDATE_MS),
            not_after: now.plus_ms(profile.life_default_ms()),
            agent: profile.is_agent().then(|| AgentPlan {
                spiffe_id: "spiffe://countersign.example/agent/purchaser/shopper".parse().unwrap(),
                custody: CustodyLevel::CustodyStated,
                bound_to,
            }),
            operator: (profile == Profile::Operator)
                .then(|| OperatorPlan { trust_domain: "countersign.example".into(), name: person.parse().unwrap() }),
            server_names: match profile {
                Profile::TlsServer => vec!["bank.countersign.example".into(), "127.0.0.1".into(), "::1".into()],
                _ => vec![],
            },
        };
        let issuer = match profile.table().issuer {
            IssuedBy::Itself => None,
            IssuedBy::Root => Some(self.root.as_slice()),
            IssuedBy::Issuing => Some(self.issuing.as_slice()),
        };
        tbs_certificate(&plan, issuer, BASE_URL, &base()).unwrap()
    }
}
