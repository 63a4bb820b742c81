//! Identifiers, time and money: the words every other module speaks.
//!
//! Parsed at the edge, believed inside: holding one of these values means its rules were checked.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Whole seconds, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant plus `millis`, saturating.
    #[must_use]
    pub fn plus_ms(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// RFC 3339 UTC with milliseconds, for example `2026-11-21T04:20:37.125Z`.
    pub fn rfc3339(self) -> String {
        let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        )
    }
}

/// Days since 1970-01-01 by some account's calendar ([`Zone::day`](crate::kernel::zone::Zone::day)); the key of a daily
/// counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Day(pub i32);

impl Day {
    /// The day in UTC.
    pub fn utc(at: UnixMillis) -> Self {
        // i64 milliseconds / 86 400 000 always fits an i32 for years the product accepts.
        Self(i32::try_from(at.0.div_euclid(86_400_000)).unwrap_or(i32::MAX))
    }
}

/// A string that is not what it should be. Says what was expected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} must be {expected}")]
pub struct Malformed {
    pub what: &'static str,
    pub expected: &'static str,
}

/// ISO 4217 code with its number of decimals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Currency {
    code: [u8; 3],
    decimals: u8,
}

/// Currencies the product knows, with their decimals (ISO 4217).
const CURRENCIES: &[(&str, u8)] =
    &[("USD", 2), ("EUR", 2), ("GBP", 2), ("CHF", 2), ("JPY", 0), ("KRW", 0), ("BHD", 3), ("KWD", 3)];

impl Currency {
    /// The three-letter code.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code).unwrap_or("???")
    }

    /// Digits after the decimal point of one unit.
    pub fn decimals(&self) -> u32 {
        u32::from(self.decimals)
    }
}

impl FromStr for Currency {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        CURRENCIES
            .iter()
            .find(|(code, _)| *code == text)
            .map(|(code, decimals)| {
                let bytes = code.as_bytes();
                Self { code: [bytes[0], bytes[1], bytes[2]], decimals: *decimals }
            })
            .ok_or(Malformed { what: "currency", expected: "a known ISO 4217 code such as USD" })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount in minor units (cents) of one currency. Arithmetic is checked and never mixes currencies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Significant digits accepted in an amount: a JSON number of 15 digits survives a client's float exactly.
pub const AMOUNT_DIGITS_MAX: usize = 15;

/// Why an amount was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AmountRefused {
    #[error("the amount must be a plain decimal number such as 1899.99, without sign, exponent or separators")]
    NotPlainDecimal,
    #[error("the amount has more than {AMOUNT_DIGITS_MAX} significant digits")]
    TooManyDigits,
    #[error("the amount has more decimals than the currency")]
    TooManyDecimals,
    #[error("the amount must be greater than zero")]
    NotPositive,
}

impl Money {
    pub fn from_minor(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Reads a positive amount written as a plain decimal: digits, optionally a point and digits.
    ///
    /// # Errors
    /// [`AmountRefused`]: signs, exponents and separators are not plain; at most
    /// [`AMOUNT_DIGITS_MAX`] significant digits; at most the currency's decimals; zero is not positive.
    pub fn parse_positive(text: &str, currency: Currency) -> Result<Self, AmountRefused> {
        if let Some(rest) = text.strip_prefix('-') {
            return Err(match Self::parse_positive(rest, currency) {
                Ok(_) => AmountRefused::NotPositive,
                Err(refused) => refused,
            });
        }
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(AmountRefused::NotPlainDecimal),
            None => (text, ""),
        };
        let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || leading_zero || !digits_only(whole) || !digits_only(fraction) {
            return Err(AmountRefused::NotPlainDecimal);
        }
        let significant = whole.trim_start_matches('0').len() + fraction.len();
        if significant > AMOUNT_DIGITS_MAX {
            return Err(AmountRefused::TooManyDigits);
        }
        if fraction.len() > currency.decimals() as usize {
            return Err(AmountRefused::TooManyDecimals);
        }
        let decimal = Decimal::from_str(text).map_err(|_| AmountRefused::NotPlainDecimal)?;
        let scaled = decimal * Decimal::from(10_i64.pow(currency.decimals()));
        let minor = i64::try_from(scaled).map_err(|_| AmountRefused::TooManyDigits)?;
        if minor <= 0 {
            return Err(AmountRefused::NotPositive);
        }
        Ok(Self { minor, currency })
    }

    /// Minor units (cents for USD).
    pub fn minor(self) -> i64 {
        self.minor
    }

    pub fn currency(self) -> Currency {
        self.currency
    }

    /// `self + other`, or `None` on overflow or when the currencies differ.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        (self.currency == other.currency)
            .then(|| self.minor.checked_add(other.minor))
            .flatten()
            .map(|minor| Self { minor, ..self })
    }

    /// `self - other`, or `None` on overflow or when the currencies differ.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        (self.currency == other.currency)
            .then(|| self.minor.checked_sub(other.minor))
            .flatten()
            .map(|minor| Self { minor, ..self })
    }

    /// The plain decimal text, with exactly the currency's decimals: `1899.99`.
    pub fn decimal(self) -> String {
        Decimal::new(self.minor, self.currency.decimals()).to_string()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.decimal(), self.currency)
    }
}

/// On the wire: `{"amount":"1899.99","currency":"USD"}`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MoneyWire {
    amount: String,
    currency: Currency,
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        MoneyWire { amount: self.decimal(), currency: self.currency }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = MoneyWire::deserialize(deserializer)?;
        let decimal = Decimal::from_str_exact(&wire.amount).map_err(serde::de::Error::custom)?;
        let scaled = decimal * Decimal::from(10_i64.pow(wire.currency.decimals()));
        if scaled.fract() != Decimal::ZERO {
            return Err(serde::de::Error::custom(AmountRefused::TooManyDecimals));
        }
        let minor = i64::try_from(scaled).map_err(serde::de::Error::custom)?;
        Ok(Self { minor, currency: wire.currency })
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Malformed { what: $what, expected: $expected })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fn visible(text: &str, bytes_max: usize, also: &str) -> bool {
    (1..=bytes_max).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.as_bytes().contains(&byte))
}

fn lower_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

name_type!(
    /// An account number of the bank, such as `CHK_001`.
    AccountId, "account id", "1 to 64 letters, digits, '_', '-' or '.'", |text| visible(text, 64, "_-.")
);
name_type!(
    /// The bank's name for a customer who owns accounts.
    OwnerId, "owner id", "1 to 64 letters, digits, '_', '-' or '.'", |text| visible(text, 64, "_-.")
);
name_type!(
    /// A product in a merchant's catalogue, such as `B08N5WRWNW`.
    ProductId, "product id", "1 to 64 letters, digits, '_', '-' or '.'", |text| visible(text, 64, "_-.")
);
name_type!(
    /// A merchant's registered domain name, lower case ASCII.
    MerchantId, "merchant", "a lower-case domain name of letters, digits, '-' and '.'",
    |text| text.len() <= 253 && text.contains('.') && text.split('.').all(lower_name)
);
name_type!(
    /// An agent's name: a DNS label.
    AgentName, "agent name", "1 to 63 lower-case letters, digits or '-', not at either end", lower_name
);
name_type!(
    /// A role of the signed catalogue: a DNS label.
    RoleName, "role", "1 to 63 lower-case letters, digits or '-', not at either end", lower_name
);
name_type!(
    /// A human at one of the parties: a DNS label.
    OperatorName, "operator name", "1 to 63 lower-case letters, digits or '-', not at either end", lower_name
);
name_type!(
    /// A party of the installation, such as `bank` or `secco`.
    PartyName, "party name", "1 to 63 lower-case letters, digits or '-', not at either end", lower_name
);
name_type!(
    /// A credential of the vault, such as `notify/mail`.
    CredentialName, "credential name", "1 to 128 of a-z, 0-9, '.', '_', '/' and '-', the first one a letter or a digit",
    |text| word_of(text, 128, b"._/-")
);
name_type!(
    /// A part of the daemon that reads credentials, such as `notify.mail` or `core-banking`.
    ServiceName, "service name", "1 to 64 of a-z, 0-9, '.', '_' and '-', the first one a letter or a digit",
    |text| word_of(text, 64, b"._-")
);
name_type!(
    /// The caller's own key for one intent; the same key never moves money twice.
    IdempotencyKey, "idempotency key", "1 to 64 letters, digits, '_', '-', '.' or ':'", |text| visible(text, 64, "_-.:")
);

/// Lower-case letters and digits, and these besides, but not at the beginning.
fn word_of(text: &str, bytes_max: usize, also: &[u8]) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=bytes_max).contains(&text.len())
        && text.bytes().enumerate().all(|(place, byte)| plain(byte) || (place > 0 && also.contains(&byte)))
}

fn ulid_with(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| {
        rest.len() == 26 && rest.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
    })
}

name_type!(
    /// An authorization and the payment it became: `txn_` + ULID.
    TransactionId, "transaction id", "txn_ followed by a 26-character ULID", |text| ulid_with("txn_", text)
);
name_type!(
    /// A question to a human: `apr_` + ULID.
    ApprovalId, "approval id", "apr_ followed by a 26-character ULID", |text| ulid_with("apr_", text)
);
name_type!(
    /// Work that waits for the bank's people instead of moving money: `case_` + ULID.
    CaseId, "case id", "case_ followed by a 26-character ULID", |text| ulid_with("case_", text)
);
name_type!(
    /// An account owner's mandate to an agent: `mdt_` + ULID.
    MandateId, "mandate id", "mdt_ followed by a 26-character ULID", |text| ulid_with("mdt_", text)
);
name_type!(
    /// One of the daemons that share a store, from its start to its end: `node_` + ULID.
    NodeId, "node id", "node_ followed by a 26-character ULID", |text| ulid_with("node_", text)
);
name_type!(
    /// One request, for logs, leaves and errors: `req_` + ULID.
    RequestId, "request id", "req_ followed by a 26-character ULID", |text| ulid_with("req_", text)
);

/// `spiffe://<trust domain>/agent/<role>/<name>`: the identity both certificates carry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpiffeId {
    trust_domain: String,
    role: RoleName,
    name: AgentName,
}

impl SpiffeId {
    pub fn new(trust_domain: &str, role: RoleName, name: AgentName) -> Result<Self, Malformed> {
        let labels_ok = trust_domain.len() <= 255 && trust_domain.split('.').all(lower_name);
        if !labels_ok {
            return Err(Malformed { what: "trust domain", expected: "a lower-case domain name" });
        }
        Ok(Self { trust_domain: trust_domain.to_owned(), role, name })
    }

    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    pub fn role(&self) -> &RoleName {
        &self.role
    }

    pub fn name(&self) -> &AgentName {
        &self.name
    }
}

impl FromStr for SpiffeId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bad = Malformed { what: "SPIFFE ID", expected: "spiffe://<trust domain>/agent/<role>/<name>" };
        let rest = text.strip_prefix("spiffe://").ok_or(bad.clone())?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [domain, "agent", role, name] = parts.as_slice() else {
            return Err(bad);
        };
        Self::new(domain, role.parse()?, name.parse()?)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/agent/{}/{}", self.trust_domain, self.role, self.name)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// 32 bytes that are a SHA-256 value; text form is lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// SHA-256 of the parts, one after the other.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in parts {
            context.update(part);
        }
        let mut value = [0; 32];
        value.copy_from_slice(context.finish().as_ref());
        Self(value)
    }

    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, Malformed> {
        let mut value = [0; 32];
        hex::decode_to_slice(text, &mut value)
            .map_err(|_| Malformed { what: "SHA-256 value", expected: "64 hexadecimal digits" })?;
        Ok(Self(value))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.hex())
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Self::from_hex(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
        } else {
            Ok(Self(<[u8; 32]>::deserialize(deserializer)?))
        }
    }
}

/// SHA-256 of a key's SubjectPublicKeyInfo (DER). It is the key's CKA_ID and the agent's key hash.
pub type KeyId = Sha256;

/// A certificate serial number: the bytes of the INTEGER without sign padding; text form is hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// Takes big-endian bytes; leading zeros are dropped. At most 20 bytes (RFC 5280, 4.1.2.2).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        let trimmed = &bytes[start..];
        if trimmed.is_empty() || trimmed.len() > 20 {
            return Err(Malformed { what: "serial number", expected: "1 to 20 bytes, not zero" });
        }
        Ok(Self(trimmed.to_vec()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn hex(&self) -> String {
        hex::encode(&self.0)
    }
}

impl FromStr for Serial {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bytes = hex::decode(text.replace(':', ""))
            .map_err(|_| Malformed { what: "serial number", expected: "hexadecimal digits" })?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Serialize for Serial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Serial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd() -> Currency {
        "USD".parse().unwrap()
    }

    #[test]
    fn amounts_outside_the_rules_are_refused_by_name() {
        use AmountRefused::*;
        let table = [
            ("", NotPlainDecimal),
            (".", NotPlainDecimal),
            ("1.", NotPlainDecimal),
            (".5", NotPlainDecimal),
            ("01", NotPlainDecimal),
            ("1e3", NotPlainDecimal),
            ("+1", NotPlainDecimal),
            ("1,000", NotPlainDecimal),
            ("1 000", NotPlainDecimal),
            ("0x10", NotPlainDecimal),
            ("NaN", NotPlainDecimal),
            ("--1", NotPositive),
            ("-1", NotPositive),
            ("0", NotPositive),
            ("0.00", NotPositive),
            ("0.001", TooManyDecimals),
            ("1.999", TooManyDecimals),
            ("12345678901234.56", TooManyDigits),
            ("9999999999999999", TooManyDigits),
        ];
        for (text, refused) in table {
            assert_eq!(Money::parse_positive(text, usd()), Err(refused), "{text}");
        }
    }

    #[test]
    fn accepted_amounts_read_back_exactly() {
        for (text, minor, shown) in [
            ("1899.99", 189_999, "1899.99"),
            ("10000", 1_000_000, "10000.00"),
            ("0.01", 1, "0.01"),
            ("9999999999999.99", 999_999_999_999_999, "9999999999999.99"),
        ] {
            let money = Money::parse_positive(text, usd()).unwrap();
            assert_eq!(money.minor(), minor);
            assert_eq!(money.decimal(), shown);
            let json = serde_json::to_string(&money).unwrap();
            assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
        }
    }

    #[test]
    fn money_of_two_currencies_never_adds_up() {
        let euro = Money::from_minor(1, "EUR".parse().unwrap());
        assert_eq!(Money::from_minor(1, usd()).checked_add(euro), None);
        assert_eq!(Money::from_minor(i64::MAX, usd()).checked_add(Money::from_minor(1, usd())), None);
    }

    #[test]
    fn names_outside_the_rules_are_refused() {
        assert!("amazon.com".parse::<MerchantId>().is_ok());
        for bad in ["Amazon.com", "amazon", "ama zon.com", "amazon..com", "аmazon.com", "-a.com", ""] {
            assert!(bad.parse::<MerchantId>().is_err(), "{bad}");
        }
        for bad in
            ["spiffe://x.y/agent/a", "spiffe://x.y/agent/a/b/c", "https://x.y/agent/a/b", "spiffe://X.y/agent/a/b"]
        {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
        let id: SpiffeId = "spiffe://countersign.example/agent/purchaser/shopper".parse().unwrap();
        assert_eq!(id.role().as_str(), "purchaser");
    }
}
