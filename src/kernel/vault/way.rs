//! How a value is sealed: what a row says of it, readable without any key, and authenticated with the value.

/// The hash of RSA-OAEP and of its mask (RFC 8017, 7.1). Neither needs to withstand collisions there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oaep {
    /// For modules that have no other, such as SoftHSM2.
    Sha1,
    Sha256,
}

/// How a value is sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By the module, under an AES key of its own.
    AesGcm,
    /// By the worker, under a data key that only the module's RSA key opens.
    RsaOaep(Oaep),
}

/// What a value under a data key begins with; one that the module has sealed begins with a random nonce.
const TAG: &[u8; 20] = b"countersign/oaep/v1\0";

impl Oaep {
    /// The strongest first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha1];
    /// Bytes of a header.
    pub const HEADER_BYTES: usize = TAG.len() + 1;

    /// What stands before a value that is sealed in this way.
    pub fn header(self) -> [u8; Self::HEADER_BYTES] {
        let mut header = [0; Self::HEADER_BYTES];
        header[..TAG.len()].copy_from_slice(TAG);
        header[TAG.len()] = match self {
            Self::Sha1 => 1,
            Self::Sha256 => 2,
        };
        header
    }

    /// The way, and what follows its header.
    pub fn read(sealed: &[u8]) -> Option<(Self, &[u8])> {
        Self::ALL.into_iter().find_map(|way| Some((way, sealed.strip_prefix(&way.header())?)))
    }
}

impl Way {
    /// What the first [`Oaep::HEADER_BYTES`] bytes of a sealed value say.
    pub fn of(sealed: &[u8]) -> Self {
        Oaep::read(sealed).map_or(Self::AesGcm, |(oaep, _)| Self::RsaOaep(oaep))
    }

    /// As lists and leaves call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AesGcm => "aes-256-gcm",
            Self::RsaOaep(Oaep::Sha256) => "rsa-oaep-sha256",
            Self::RsaOaep(Oaep::Sha1) => "rsa-oaep-sha1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_says_how() {
        for way in Oaep::ALL {
            let sealed = [way.header().as_slice(), b"rest"].concat();
            assert_eq!(Oaep::read(&sealed), Some((way, b"rest".as_slice())));
            assert_eq!(Way::of(&sealed), Way::RsaOaep(way));
            assert_eq!(Way::of(&sealed[1..]), Way::AesGcm);
        }
        let mut unknown = Oaep::Sha256.header();
        unknown[20] = 3;
        for other in [&unknown[..], &unknown[..20], b"", &[7; 40]] {
            assert_eq!(Way::of(other), Way::AesGcm);
        }
    }
}
