//! Where a channel's server is: looked up once, before the front is confined, and judged.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::{Again, Undelivered};
use crate::ops::failure::Failure;
use crate::tls::asking::Unresolved;

/// A server's addresses, or why there is none to send to until the daemon starts again.
#[derive(Clone, Debug)]
pub struct Place {
    pub host: String,
    found: Result<Vec<SocketAddr>, (&'static str, String)>,
}

/// Whether private addresses are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Private {
    Allowed,
    Refused,
}

impl Place {
    /// Looks a name up. A name without an address must not keep a bank from starting: then the channel is closed.
    ///
    /// # Errors
    /// `notify_unresolvable`, `notify_address_private`, unless that is tolerated.
    pub fn find(
        channel: &str,
        host: &str,
        port: u16,
        private: Private,
        unresolved: Unresolved,
    ) -> Result<Self, Failure> {
        let looked_up = (host.trim_matches(['[', ']']), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let found = match looked_up {
            Ok(addresses) => {
                let usable = |address: &SocketAddr| private == Private::Allowed || is_public(address.ip());
                let usable: Vec<SocketAddr> = addresses.into_iter().filter(usable).collect();
                let message = || format!("[[notify.channel]] {channel}: {host} has only loopback or private addresses");
                if usable.is_empty() { Err(("notify_address_private", message())) } else { Ok(usable) }
            }
            Err(error) => {
                Err(("notify_unresolvable", format!("[[notify.channel]] {channel}: {host} has no address: {error}")))
            }
        };
        if let Err((name, message)) = &found {
            let next_step = "check the name and the resolver, or say allow_private = true; it is looked up when the \
                             daemon starts";
            if unresolved == Unresolved::Refused {
                return Err(Failure::usage(name, message.clone(), next_step));
            }
            tracing::warn!(name, %message, %next_step, "nothing is sent there until the daemon starts again");
        }
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), found })
    }

    /// Whether there is one.
    pub fn is_open(&self) -> bool {
        self.found.is_ok()
    }

    /// # Errors
    /// Why there is none.
    pub fn addresses(&self) -> Result<&[SocketAddr], Undelivered> {
        match &self.found {
            Ok(addresses) => Ok(addresses),
            Err((name, message)) => Err(Undelivered::new(name, message.clone(), Again::Later)),
        }
    }
}

/// An address of the internet at large. Everything else is somebody's own (RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, third, _] = address.octets();
            let shared = first == 100 && (64..128).contains(&second);
            let benchmark = first == 198 && (18..20).contains(&second);
            // Protocol assignments and the first of three networks for documentation.
            let protocol = first == 192 && second == 0 && (third == 0 || third == 2);
            let example = [first, second, third] == [198, 51, 100] || [first, second, third] == [203, 0, 113];
            // The relays of 6to4 (RFC 7526).
            let relay = [first, second, third] == [192, 88, 99];
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || first == 0
                || first >= 240
                || shared
                || benchmark
                || protocol
                || example
                || relay)
        }
        IpAddr::V6(address) => {
            if let Some(mapped) = address.to_ipv4_mapped() {
                return is_public(IpAddr::V4(mapped));
            }
            let segments = address.segments();
            let first = segments[0];
            // ::/96 once meant an IPv4 address (RFC 4291), and some systems still send it there.
            let compatible = segments[..6] == [0; 6];
            // 6to4 and Teredo lead to an IPv4 address in them, protocol assignments to nobody's server.
            let tunnel = first == 0x2002 || (first == 0x2001 && segments[1] < 0x200);
            let example = (first == 0x2001 && segments[1] == 0xdb8) || (first == 0x3fff && segments[1] < 0x1000);
            // 64:ff9b::/96 leads to an IPv4 address.
            if address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
                let [.., a, b, c, d] = address.octets();
                return is_public(IpAddr::V4([a, b, c, d].into()));
            }
            !(address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || first & 0xfe00 == 0xfc00
                || first & 0xffc0 == 0xfe80
                || first & 0xffc0 == 0xfec0
                || compatible
                || tunnel
                || example
                || (first == 0x64 && address.segments()[1] == 0xff9b))
        }
    }
}

/// TLS towards a channel's server: these roots alone, or the system's.
///
/// # Errors
/// `notify_root_unusable`
pub fn tls(channel: &str, root_file: Option<&Path>) -> Result<ClientConfig, Failure> {
    let unusable = |message: String| {
        let next_step = "name a PEM file of root certificates in root_file, or install the system's (ca-certificates)";
        Failure::usage("notify_root_unusable", format!("[[notify.channel]] {channel}: {message}"), next_step)
    };
    let mut roots = RootCertStore::empty();
    match root_file {
        Some(path) => {
            let shown = path.display();
            let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(format!("{shown}: {error}")))?;
            for certificate in read {
                let certificate = certificate.map_err(|error| unusable(format!("{shown}: {error}")))?;
                roots.add(certificate).map_err(|error| unusable(format!("{shown}: {error}")))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(unusable("there is no root certificate to trust".into()));
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.1",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "::127.0.0.1",
            "::1.1.1.1",
            "2002:7f00:1::1",
            "2002:101:101::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "3fff::1",
            "fec0::1",
            "192.0.2.1",
            "192.88.99.1",
            "198.51.100.1",
            "203.0.113.1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.3.1",
            "198.51.101.1",
            "203.0.114.1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_name_without_a_public_address_is_refused_by_name_or_closes_the_channel() {
        for (host, private, name) in [
            ("localhost", Private::Refused, "notify_address_private"),
            ("no-such-name.invalid", Private::Allowed, "notify_unresolvable"),
        ] {
            let refused = Place::find("ops", host, 443, private, Unresolved::Refused).unwrap_err();
            assert_eq!(refused.name, name, "{host}");
            let closed = Place::find("ops", host, 443, private, Unresolved::Tolerated).unwrap();
            assert_eq!(closed.addresses().unwrap_err().name, name, "{host}");
        }
        let open = Place::find("ops", "localhost", 443, Private::Allowed, Unresolved::Refused).unwrap();
        assert!(!open.addresses().unwrap().is_empty());
    }

    #[test]
    fn roots_come_from_a_file_with_certificates() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let table = [
            directory.path().join("absent"),
            file("empty", ""),
            file("words", "not PEM"),
            file("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ];
        for path in table {
            let refused = tls("ops", Some(&path)).unwrap_err();
            assert_eq!(refused.name, "notify_root_unusable", "{}", path.display());
        }
    }
}
