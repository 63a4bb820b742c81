//! Texts that are no mandate, each with the name of the rule it breaks.

use super::*;

/// Changes the claims.
type Bend = fn(&mut Value);

fn refused(bend: Bend) -> MandateRefusal {
    let owner = Owner::new();
    let mut claims = good();
    bend(&mut claims);
    owner.verify(&owner.signs_raw(&owner.header().to_string(), &claims.to_string(), &[])).unwrap_err()
}

/// The constraint of this type, in its place in [`good`].
fn payees(claims: &mut Value) -> &mut Value {
    &mut claims["constraints"][0]["allowed"]
}

fn range(claims: &mut Value) -> &mut Value {
    &mut claims["constraints"][1]
}

fn budget(claims: &mut Value) -> &mut Value {
    &mut claims["constraints"][2]
}

fn recurrence(claims: &mut Value) -> &mut Value {
    &mut claims["constraints"][3]
}

fn dates(claims: &mut Value) -> &mut Value {
    &mut claims["constraints"][4]
}

fn without(value: &mut Value, name: &str) {
    value.as_object_mut().unwrap().shift_remove(name);
}

fn with(claims: &mut Value, constraint: Value) {
    claims["constraints"].as_array_mut().unwrap().push(constraint);
}

#[test]
fn claims_are_refused_by_the_rule_they_break() {
    use MandateRefusal as No;
    let table: &[(&str, Bend, No)] = &[
        ("closed vct", |c| c["vct"] = json!("mandate.payment.1"), No::Vct),
        ("next vct", |c| c["vct"] = json!("mandate.payment.open.2"), No::Vct),
        ("vct is a number", |c| c["vct"] = json!(1), No::Vct),
        ("no vct", |c| without(c, "vct"), No::Claims),
        ("no iss", |c| without(c, "iss"), No::Claims),
        ("no sub", |c| without(c, "sub"), No::Claims),
        ("no jti", |c| without(c, "jti"), No::Claims),
        ("no cnf", |c| without(c, "cnf"), No::Claims),
        ("no exp", |c| without(c, "exp"), No::Claims),
        ("no account", |c| without(c, "payment_instrument"), No::Claims),
        ("no constraints", |c| without(c, "constraints"), No::Claims),
        ("an unknown claim", |c| c["note"] = json!("x"), No::Claims),
        ("a preset payee", |c| c["payee"] = json!({ "id": "amazon.com", "name": "Amazon" }), No::Claims),
        ("null", |c| c["nbf"] = Value::Null, No::Claims),
        ("jti of another kind", |c| c["jti"] = json!("txn_01JD5T9GQ8ZK3VYBX4M2N6P7RS"), No::Claims),
        ("sub is no agent", |c| c["sub"] = json!("shopper"), No::Claims),
        ("times as text", |c| c["exp"] = json!("2027-01-01"), No::Claims),
        ("fractional time", |c| c["exp"] = json!(1_795_300_000.5), No::Claims),
        ("another owner", |c| c["iss"] = json!("own-002"), No::AnotherOwner),
        ("ends before it begins", |c| c["exp"] = json!(NOW.seconds() - 1), No::Lifetime),
        ("ends as it begins", |c| c["exp"] = c["iat"].clone(), No::Lifetime),
        ("longer than 400 days", |c| c["exp"] = json!(NOW.seconds() + 400 * 86_400 + 1), No::Lifetime),
        ("begins before it was made", |c| c["nbf"] = json!(NOW.seconds() - 1), No::Lifetime),
        ("begins after it ends", |c| c["nbf"] = c["exp"].clone(), No::Lifetime),
        ("negative time", |c| c["iat"] = json!(-1), No::Lifetime),
        ("overflowing time", |c| c["exp"] = json!(i64::MAX), No::Lifetime),
        ("from the future", |c| c["iat"] = json!(NOW.seconds() + 61), No::FromTheFuture),
        (
            "over",
            |c| {
                c["iat"] = json!(NOW.seconds() - 100);
                c["exp"] = json!(NOW.seconds());
            },
            No::Expired,
        ),
        ("a card", |c| c["payment_instrument"]["type"] = json!("card"), No::Instrument),
        ("an account that cannot be", |c| c["payment_instrument"]["id"] = json!("CHK 001"), No::Instrument),
        ("an instrument with more", |c| c["payment_instrument"]["description"] = json!("x"), No::Claims),
        ("an empty cnf", |c| c["cnf"] = json!({}), No::Confirmation),
        ("two keys", |c| c["cnf"]["jkt"] = json!("x"), No::Confirmation),
        ("a short kid", |c| c["cnf"]["kid"] = json!("07"), No::Confirmation),
        ("a kid in capitals", |c| c["cnf"]["kid"] = json!("AB".repeat(32)), No::Confirmation),
        ("a key off its curve", |c| c["cnf"] = jwk("P-256", [1; 32], [2; 32]), No::Confirmation),
        ("a key of another curve", |c| c["cnf"] = jwk("P-521", [1; 32], [2; 32]), No::Confirmation),
        ("a key with its private half", |c| c["cnf"] = private(), No::Confirmation),
        ("constraints as an object", |c| c["constraints"] = json!({}), No::Claims),
        ("a constraint as a text", |c| with(c, json!("payment.budget")), No::ConstraintMalformed),
        ("a constraint without type", |c| with(c, json!({ "max": 1 })), No::ConstraintMalformed),
        ("an empty constraint", |c| with(c, json!({})), No::ConstraintMalformed),
        ("an unknown constraint", |c| with(c, json!({ "type": "payment.weather" })), No::ConstraintUnknown),
        ("AP2's PISPs", |c| with(c, json!({ "type": "payment.allowed_pisps", "allowed": [] })), No::ConstraintUnknown),
        (
            "AP2's instruments",
            |c| with(c, json!({ "type": "payment.allowed_payment_instruments", "allowed": [] })),
            No::ConstraintUnknown,
        ),
        ("a type in capitals", |c| range(c)["type"] = json!("PAYMENT.AMOUNT_RANGE"), No::ConstraintUnknown),
        ("a constraint twice", |c| with(c, range(&mut good()).clone()), No::ConstraintRepeated),
        ("a member more", |c| range(c)["step"] = json!(1), No::ConstraintMalformed),
        ("a member null", |c| range(c)["min"] = Value::Null, No::ConstraintMalformed),
        ("no max", |c| without(range(c), "max"), No::ConstraintMalformed),
        ("zero", |c| range(c)["max"] = json!(0), No::ConstraintAmount),
        ("negative", |c| range(c)["max"] = json!(-1), No::ConstraintAmount),
        ("negative min", |c| range(c)["min"] = json!(-1), No::ConstraintAmount),
        ("an empty range", |c| range(c)["min"] = json!(20_001), No::ConstraintAmount),
        ("a fraction of a cent", |c| range(c)["max"] = json!(100.5), No::ConstraintAmount),
        ("more than 15 digits", |c| range(c)["max"] = json!(1_000_000_000_000_000_i64), No::ConstraintAmount),
        ("more than i64", |c| range(c)["max"] = json!(u64::MAX), No::ConstraintAmount),
        ("amount as text", |c| range(c)["max"] = json!("20000"), No::ConstraintMalformed),
        ("unknown currency", |c| range(c)["currency"] = json!("XXX"), No::ConstraintCurrency),
        ("two currencies", |c| range(c)["currency"] = json!("EUR"), No::ConstraintCurrency),
        ("zero budget", |c| budget(c)["max"] = json!(0), No::ConstraintAmount),
        ("negative budget", |c| budget(c)["max"] = json!(-5.5), No::ConstraintAmount),
        ("a budget of tenths of cents", |c| budget(c)["max"] = json!(5.555), No::ConstraintAmount),
        ("a budget beyond everything", |c| budget(c)["max"] = json!(9_999_999_999_999_999_u64), No::ConstraintAmount),
        ("budget as text", |c| budget(c)["max"] = json!("5"), No::ConstraintMalformed),
        ("an unknown period", |c| budget(c)["period"] = json!("HOURLY"), No::ConstraintMalformed),
        ("a period in small letters", |c| budget(c)["period"] = json!("monthly"), No::ConstraintMalformed),
        ("no frequency", |c| without(recurrence(c), "frequency"), No::ConstraintMalformed),
        ("never", |c| recurrence(c)["max_occurrences"] = json!(0), No::ConstraintMalformed),
        ("less than never", |c| recurrence(c)["max_occurrences"] = json!(-1), No::ConstraintMalformed),
        ("half a time", |c| recurrence(c)["per_period"] = json!(0.5), No::ConstraintMalformed),
        ("times of no period", |c| recurrence(c)["frequency"] = json!("ON_DEMAND"), No::ConstraintMalformed),
        ("nobody", |c| *payees(c) = json!([]), No::ConstraintMalformed),
        ("33 payees", |c| *payees(c) = json!(vec![payees(&mut good())[0].clone(); 33]), No::ConstraintMalformed),
        ("a payee without id", |c| without(&mut payees(c)[0], "id"), No::ConstraintMalformed),
        ("a payee that is no domain", |c| payees(c)[0]["id"] = json!("Amazon.com"), No::ConstraintMalformed),
        ("a look-alike", |c| payees(c)[0]["id"] = json!("\u{430}mazon.com"), No::ConstraintMalformed),
        ("a payee with a line feed", |c| payees(c)[0]["name"] = json!("A\nB"), No::ConstraintMalformed),
        ("a payee with a long name", |c| payees(c)[0]["name"] = json!("A".repeat(129)), No::ConstraintMalformed),
        ("no reference", |c| with(c, reference(&json!(""))), No::ConstraintMalformed),
        ("a long reference", |c| with(c, reference(&json!("R".repeat(65)))), No::ConstraintMalformed),
        ("a reference with a space", |c| with(c, reference(&json!("a b"))), No::ConstraintMalformed),
        ("a reference that is a number", |c| with(c, reference(&json!(7))), No::ConstraintMalformed),
        ("no such day", |c| dates(c)["not_before"] = json!("2026-02-30"), No::ConstraintMalformed),
        ("a day of a signed year", |c| dates(c)["not_after"] = json!("+12345-1-1"), No::ConstraintMalformed),
        ("a day of a far year", |c| dates(c)["not_after"] = json!("12345-01-1"), No::ConstraintMalformed),
        ("a day before our era", |c| dates(c)["not_before"] = json!("-999-01-01"), No::ConstraintMalformed),
        ("a day with short numbers", |c| dates(c)["not_before"] = json!("2026- 1- 1"), No::ConstraintMalformed),
        (
            "an instant before the year 0",
            |c| dates(c)["not_before"] = json!("0000-01-01T00:00:00+00:01"),
            No::ConstraintMalformed,
        ),
        (
            "an instant after the year 9999",
            |c| dates(c)["not_after"] = json!("9999-12-31T23:59:59-00:01"),
            No::ConstraintMalformed,
        ),
        ("an instant without zone", |c| dates(c)["not_after"] = json!("2026-12-01T00:00:00"), No::ConstraintMalformed),
        ("a day that is none", |c| dates(c)["days"] = json!(["MONDAY"]), No::ConstraintMalformed),
        ("a day twice", |c| dates(c)["days"] = json!(["MON", "MON"]), No::ConstraintMalformed),
        ("no days", |c| dates(c)["days"] = json!([]), No::ConstraintMalformed),
        (
            "dates that say nothing",
            |c| *dates(c) = json!({ "type": "payment.execution_date" }),
            No::ConstraintMalformed,
        ),
        ("no ceiling", |c| c["constraints"] = json!([payees_alone()]), No::NoCeiling),
        ("no constraint", |c| c["constraints"] = json!([]), No::NoCeiling),
        ("another hash", |c| c["_sd_alg"] = json!("sha-512"), No::DigestAlgorithm),
        ("a hash that is a number", |c| c["_sd_alg"] = json!(256), No::DigestAlgorithm),
        ("a hidden claim", |c| c["_sd"] = json!(["A".repeat(43)]), No::Hidden),
        ("a hidden constraint", |c| with(c, json!({ "...": "A".repeat(43) })), No::Hidden),
        ("a hidden member", |c| range(c)["_sd"] = json!(["A".repeat(43)]), No::Hidden),
        ("a digest twice", |c| c["_sd"] = json!(["A", "A"]), No::Hidden),
        ("digests that are no list", |c| c["_sd"] = json!("A"), No::DisclosureMalformed),
        ("a digest that is a number", |c| c["_sd"] = json!([1]), No::DisclosureMalformed),
        ("dots beside others", |c| with(c, json!({ "...": "A", "type": "x" })), No::DisclosureMalformed),
        ("dots in an object", |c| c["cnf"]["..."] = json!("A"), No::DisclosureMalformed),
        ("too deep", |c| c["cnf"] = deep(), No::Payload),
    ];
    for (what, bend, expected) in table {
        assert_eq!(refused(*bend), *expected, "{what}");
    }
}

fn jwk(curve: &str, x: [u8; 32], y: [u8; 32]) -> Value {
    let [x, y] = [x, y].map(|scalar| URL_SAFE_NO_PAD.encode(scalar));
    json!({ "jwk": { "kty": "EC", "crv": curve, "x": x, "y": y } })
}

fn private() -> Value {
    let mut key = jwk("P-256", [1; 32], [2; 32]);
    key["jwk"]["d"] = json!("AA");
    key
}

fn reference(text: &Value) -> Value {
    json!({ "type": "payment.reference", "conditional_transaction_id": text })
}

fn payees_alone() -> Value {
    good()["constraints"][0].clone()
}

fn deep() -> Value {
    (0..9).fold(json!(1), |inner, _| json!([inner]))
}

#[test]
fn headers_are_refused_by_the_rule_they_break() {
    use MandateRefusal as No;
    let table: &[(&str, Bend, No)] = &[
        ("none", |h| h["alg"] = json!("none"), No::Algorithm),
        ("None", |h| h["alg"] = json!("None"), No::Algorithm),
        ("HMAC", |h| h["alg"] = json!("HS256"), No::Algorithm),
        ("another curve", |h| h["alg"] = json!("ES384"), No::Algorithm),
        ("no alg", |h| without(h, "alg"), No::Algorithm),
        ("alg is a list", |h| h["alg"] = json!(["ES256"]), No::Algorithm),
        ("crit", |h| h["crit"] = json!(["exp"]), No::Critical),
        ("a key in the header", |h| h["jwk"] = json!({}), No::HeaderUnknown),
        ("a certificate in the header", |h| h["x5c"] = json!([]), No::HeaderUnknown),
        ("an access token", |h| h["typ"] = json!("at+jwt"), No::Typ),
        ("AP2's example", |h| h["typ"] = json!("example+sd-jwt"), No::Typ),
        ("no typ", |h| without(h, "typ"), No::Typ),
        ("another key", |h| h["kid"] = json!("0".repeat(64)), No::KeyUnknown),
        ("no kid", |h| without(h, "kid"), No::KeyUnknown),
        ("kid is a path", |h| h["kid"] = json!("../../key"), No::KeyUnknown),
    ];
    for (what, bend, expected) in table {
        let owner = Owner::new();
        let mut header = owner.header();
        bend(&mut header);
        let text = owner.signs_raw(&header.to_string(), &good().to_string(), &[]);
        assert_eq!(owner.verify(&text).unwrap_err(), *expected, "{what}");
    }
}

#[test]
fn texts_are_refused_by_the_rule_they_break() {
    use MandateRefusal as No;
    let owner = Owner::new();
    let header = owner.header().to_string();
    let signed = |payload: &str| owner.signs_raw(&header, payload, &[]);
    let text = signed(&good().to_string());
    let (input, signature) = text.trim_end_matches('~').rsplit_once('.').unwrap();
    let with_signature = |bytes: &[u8]| format!("{input}.{}~", URL_SAFE_NO_PAD.encode(bytes));
    let forged = {
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[40] ^= 1;
        with_signature(&bytes)
    };
    let mut widened = good();
    range(&mut widened)["max"] = json!(2_000_000);
    let widened = signed(&widened.to_string());
    let swapped = format!("{}.{signature}~", widened.rsplit_once('.').unwrap().0);
    let twice = good().to_string().replacen('{', "{\"exp\":1,", 1);
    let table: Vec<(&str, String, No)> = vec![
        ("empty", String::new(), No::Form),
        ("a token without its end", text.trim_end_matches('~').into(), No::Form),
        ("two parts", format!("{input}~"), No::Form),
        ("one part", "e30~".into(), No::Form),
        ("four parts", format!("{input}.x.{signature}~"), No::Form),
        ("an empty disclosure", format!("{text}~"), No::Form),
        ("a key binding", format!("{text}{input}.{signature}"), No::KeyBinding),
        ("a space before", format!(" {text}"), No::Base64),
        ("a line feed after", format!("{text}\n"), No::KeyBinding),
        ("padding", text.replacen('.', "=.", 1), No::Base64),
        ("the other alphabet", with_signature(&[0xff; 64]).replace('_', "/"), No::Base64),
        ("a signature that is forged", forged, No::Signature),
        ("a signature of zeros", with_signature(&[0; 64]), No::Signature),
        ("a short signature", with_signature(&[1; 63]), No::Signature),
        ("no signature", format!("{input}.~"), No::Signature),
        ("a signature over something else", swapped, No::Signature),
        ("another owner's key", Owner::new().signs_raw(&header, &good().to_string(), &[]), No::Signature),
        ("a claim twice", signed(&twice), No::DuplicateKey),
        ("a constraint's member twice", signed(&good().to_string().replace("\"min\"", "\"max\"")), No::DuplicateKey),
        ("an exponent", signed(&good().to_string().replace("20000", "2e4")), No::Number),
        ("a float too long", signed(&good().to_string().replace("500.5", "500.50000000000001")), No::Number),
        ("a payload that is a list", signed("[]"), No::Payload),
        ("a payload that is not JSON", signed("{"), No::Payload),
        ("two payloads", signed("{}{}"), No::Payload),
        ("a header that is a list", owner.signs_raw("[]", "{}", &[]), No::Header),
        (
            "a header twice",
            owner.signs_raw(&header.replacen('{', "{\"alg\":\"none\",", 1), "{}", &[]),
            No::DuplicateKey,
        ),
        ("a huge text", signed(&"x".repeat(20_000)), No::TooLong),
    ];
    for (what, text, expected) in table {
        assert_eq!(owner.verify(&text).unwrap_err(), expected, "{what}");
    }
    let weak = TokenKey { id: owner.key.id, spki: vec![] };
    let refused = verify(&text, &"own-001".parse().unwrap(), &[certified(&weak)], NOW).unwrap_err();
    assert_eq!(refused, No::Signature, "a key of another kind");
    assert_eq!(verify(&text, &"own-001".parse().unwrap(), &[], NOW).unwrap_err(), No::KeyUnknown, "no key");
}

#[test]
fn disclosures_are_refused_by_the_rule_they_break() {
    use MandateRefusal as No;
    let owner = Owner::new();
    let element = |salt: u8, value: &Value| sd_jwt::element_disclosure([salt; 16], value);
    let raw = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let amazon = payees(&mut good())[0].clone();
    let first = element(1, &amazon);
    let with_payees = |digests: Value| {
        let mut claims = good();
        *payees(&mut claims) = digests;
        claims
    };
    let digest = |text: &str| json!({ "...": sd_jwt::digest_of(text) });
    let one = with_payees(json!([digest(&first)]));
    let evil = element(2, &json!({ "id": "evil.example", "name": "Amazon" }));
    let named = raw(&json!(["salt", "exp", 9_999_999_999_i64]));
    let reserved = raw(&json!(["salt", "_sd", []]));
    let member = |text: &str| {
        let mut claims = good();
        claims["_sd"] = json!([sd_jwt::digest_of(text)]);
        claims
    };
    let without_exp = |mut claims: Value| {
        without(&mut claims, "exp");
        claims
    };
    let odd = raw(&json!(["salt"]));
    let numbers = raw(&json!([1, amazon]));
    let duplicate = URL_SAFE_NO_PAD.encode(r#"["salt",{"id":"amazon.com","id":"evil.example","name":"A"}]"#);
    let shown = |text: &String| (with_payees(json!([digest(text)])), vec![text.clone()]);
    let both = |claims: &Value, list: &[&String]| (claims.clone(), list.iter().map(|one| (*one).clone()).collect());
    type Row = (&'static str, (Value, Vec<String>), No);
    let table: Vec<Row> = vec![
        ("a disclosure that is missing", both(&one, &[]), No::Hidden),
        ("a disclosure that is swapped", both(&one, &[&evil]), No::Hidden),
        ("a disclosure more", both(&one, &[&first, &evil]), No::DisclosureUnused),
        ("a disclosure twice", both(&one, &[&first, &first]), No::DisclosureRepeated),
        ("a disclosure of nothing", both(&good(), &[&first]), No::DisclosureUnused),
        (
            "one digest in two places",
            both(&with_payees(json!([digest(&first), digest(&first)])), &[&first]),
            No::DigestRepeated,
        ),
        ("a member where an element belongs", shown(&named), No::DisclosureMalformed),
        ("an element where a member belongs", both(&member(&first), &[&first]), No::DisclosureMalformed),
        ("a name that is there already", both(&member(&named), &[&named]), No::DisclosureMalformed),
        ("a reserved name", both(&member(&reserved), &[&reserved]), No::DisclosureMalformed),
        ("one part", shown(&odd), No::DisclosureMalformed),
        ("a salt that is a number", shown(&numbers), No::DisclosureMalformed),
        ("a key twice", shown(&duplicate), No::DuplicateKey),
        ("not base64", both(&one, &[&"???".to_owned()]), No::Base64),
        ("not JSON", both(&one, &[&"AAAA".to_owned()]), No::DisclosureMalformed),
        ("65 of them", (good(), (0..65).map(|salt| element(salt, &json!(0))).collect()), No::DisclosuresTooMany),
    ];
    for (what, (claims, disclosures), expected) in table {
        let text = owner.signs_raw(&owner.header().to_string(), &claims.to_string(), &disclosures);
        assert_eq!(owner.verify(&text).unwrap_err(), expected, "{what}");
    }
    for (what, (claims, disclosures)) in [
        ("an element", both(&one, &[&first])),
        (
            "a member",
            both(
                &without_exp(member(&raw(&json!(["salt", "exp", NOW.seconds() + 60])))),
                &[&raw(&json!(["salt", "exp", NOW.seconds() + 60]))],
            ),
        ),
    ] {
        let text = owner.signs_raw(&owner.header().to_string(), &claims.to_string(), &disclosures);
        assert!(owner.verify(&text).is_ok(), "{what}");
    }
}
