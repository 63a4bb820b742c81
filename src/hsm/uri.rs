//! RFC 7512 PKCS#11 URIs, as far as they select a slot.
//!
//! A PIN in a URI is refused: PINs come from a file, a descriptor, a credential or a prompt, never from text.

use crate::ops::failure::Failure;

/// What a slot must match. Every given attribute counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlotUri {
    pub token: Option<String>,
    pub serial: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    /// Last resort: many modules renumber their slots.
    pub slot_id: Option<u64>,
}

impl SlotUri {
    /// Parses `pkcs11:token=…;serial=…`.
    ///
    /// # Errors
    /// `hsm_uri_invalid`: with what is wrong in it.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        // The text is not shown: a PIN may have been put into it.
        let invalid = |why: String| {
            Failure::usage(
                "hsm_uri_invalid",
                format!("the token URI is not usable: {why}"),
                "write it as pkcs11:token=<label>, and add ;serial=<serial> when two tokens share a label",
            )
        };
        let path = text.strip_prefix("pkcs11:").ok_or_else(|| invalid("it must start with pkcs11:".into()))?;
        if path.contains('?') {
            return Err(invalid("query attributes such as pin-value are refused".into()));
        }
        let mut uri = Self::default();
        for attribute in path.split(';') {
            let (name, value) =
                attribute.split_once('=').ok_or_else(|| invalid("an attribute is not name=value".into()))?;
            let value = percent_decoded(value)
                .ok_or_else(|| invalid(format!("the value of `{name}` is not percent-encoded")))?;
            let twice = match name {
                "token" => uri.token.replace(value).is_some(),
                "serial" => uri.serial.replace(value).is_some(),
                "manufacturer" => uri.manufacturer.replace(value).is_some(),
                "model" => uri.model.replace(value).is_some(),
                "slot-id" => {
                    let id = value.parse().map_err(|_| invalid("slot-id must be a number".into()))?;
                    uri.slot_id.replace(id).is_some()
                }
                _ => return Err(invalid(format!("the attribute `{name}` does not select a slot"))),
            };
            if twice {
                return Err(invalid(format!("`{name}` is given twice")));
            }
        }
        if uri.token.is_none() && uri.serial.is_none() && uri.slot_id.is_none() {
            return Err(invalid("one of token, serial and slot-id is needed".into()));
        }
        Ok(uri)
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let pair = [rest.next()?, rest.next()?];
        let mut decoded = [0];
        hex::decode_to_slice(pair, &mut decoded).ok()?;
        bytes.push(decoded[0]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_that_select_a_slot_are_read() {
        let uri = SlotUri::parse("pkcs11:token=my%20bank;serial=0a").unwrap();
        assert_eq!((uri.token.as_deref(), uri.serial.as_deref()), (Some("my bank"), Some("0a")));
        assert_eq!(SlotUri::parse("pkcs11:slot-id=3").unwrap().slot_id, Some(3));
    }

    #[test]
    fn other_uris_are_refused_and_a_pin_above_all() {
        for bad in [
            "",
            "token=bank",
            "pkcs11:",
            "pkcs11:bank",
            "pkcs11:model=x",
            "pkcs11:object=key",
            "pkcs11:token=a;token=b",
            "pkcs11:token=%4",
            "pkcs11:token=%zz",
            "pkcs11:slot-id=one",
            "pkcs11:token=bank?pin-value=7391",
            "pkcs11:token=bank;pin-value=7391",
            "pkcs11:token=bank;7391",
        ] {
            let failure = SlotUri::parse(bad).unwrap_err();
            assert_eq!(failure.name, "hsm_uri_invalid", "{bad}");
            assert!(!failure.message.contains("7391"), "{}", failure.message);
        }
    }
}
