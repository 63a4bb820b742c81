//! Names that imitate others, and names that only happen to be near.

use super::*;

const KNOWN: [&str; 6] = ["amazon.com", "bestbuy.com", "migros.ch", "marks-spencer.co.uk", "ikea.com", "paypal.com"];

/// How `xn--` labels are made (RFC 3492, 6.3), for the rows below and for what decodes them.
fn encoded(label: &str) -> String {
    let adapt = |mut delta: u32, count: u32, first: bool| {
        delta /= if first { DAMP } else { 2 };
        delta += delta / count;
        let mut k = 0;
        while delta > (BASE - T_MIN) * T_MAX / 2 {
            delta /= BASE - T_MIN;
            k += BASE;
        }
        k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
    };
    let digit = |d: u32| char::from(if d < 26 { b'a' + d as u8 } else { b'0' + (d - 26) as u8 });
    let mut output: String = label.chars().filter(char::is_ascii).collect();
    let basic = output.len() as u32;
    if basic > 0 {
        output.push('-');
    }
    let (mut n, mut delta, mut bias, mut done) = (128_u32, 0_u32, 72_u32, basic);
    while (done as usize) < label.chars().count() {
        let next = label.chars().map(u32::from).filter(|c| *c >= n).min().unwrap();
        delta += (next - n) * (done + 1);
        n = next;
        for c in label.chars().map(u32::from) {
            delta += u32::from(c < n);
            if c != n {
                continue;
            }
            let (mut rest, mut k) = (delta, BASE);
            loop {
                let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
                if rest < threshold {
                    break;
                }
                output.push(digit(threshold + (rest - threshold) % (BASE - threshold)));
                rest = (rest - threshold) / (BASE - threshold);
                k += BASE;
            }
            output.push(digit(rest));
            bias = adapt(delta, done + 1, done == basic);
            delta = 0;
            done += 1;
        }
        delta += 1;
        n += 1;
    }
    format!("xn--{output}")
}

#[test]
fn names_that_look_like_a_known_one_are_seen_and_say_which() {
    let table = [
        // Other alphabets (UTS 39)
        ("аmazon.com", "amazon.com"),
        ("amаzon.com", "amazon.com"),
        ("аmаzоn.соm", "amazon.com"),
        ("amazοn.com", "amazon.com"),
        ("ａｍａｚｏｎ.com", "amazon.com"),
        ("amaz\u{200b}on.com", "amazon.com"),
        ("ama\u{ad}zon.com", "amazon.com"),
        ("amázon.com", "amazon.com"),
        ("amazon。com", "amazon.com"),
        ("раураl.com", "paypal.com"),
        ("pаypal.com", "paypal.com"),
        ("ikеa.com", "ikea.com"),
        ("migrοs.ch", "migros.ch"),
        ("𝐚𝐦𝐚𝐳𝐨𝐧.com", "amazon.com"),
        // Case and white space
        ("AMAZON.com", ""),
        ("AMAZ0N.COM", "amazon.com"),
        (" amazon.co ", "amazon.com"),
        // Digits for letters
        ("amaz0n.com", "amazon.com"),
        ("4mazon.com", "amazon.com"),
        ("am4z0n.com", "amazon.com"),
        ("ama2on.com", "amazon.com"),
        ("be5tbuy.com", "bestbuy.com"),
        ("bes7buy.com", "bestbuy.com"),
        ("m1gros.ch", "migros.ch"),
        ("mlgros.ch", "migros.ch"),
        ("1kea.com", "ikea.com"),
        ("ik3a.com", "ikea.com"),
        ("paypa1.com", "paypal.com"),
        ("paypai.com", "paypal.com"),
        // Letters that are drawn alike
        ("arnazon.com", "amazon.com"),
        ("rnigros.ch", "migros.ch"),
        ("annazon.com", "amazon.com"),
        // Hyphens and dots
        ("ama-zon.com", "amazon.com"),
        ("amaz.on.com", "amazon.com"),
        ("best-buy.com", "bestbuy.com"),
        ("marksspencer.co.uk", "marks-spencer.co.uk"),
        ("marks.spencer.co.uk", "marks-spencer.co.uk"),
        ("amazoncom.net", "amazon.com"),
        ("amazon-com.net", "amazon.com"),
        // A letter too many, too few, changed, swapped
        ("amazonn.com", "amazon.com"),
        ("aamazon.com", "amazon.com"),
        ("amazo.com", "amazon.com"),
        ("mazon.com", "amazon.com"),
        ("amozon.com", "amazon.com"),
        ("amzaon.com", "amazon.com"),
        ("bestbyu.com", "bestbuy.com"),
        ("bestbuyy.com", "bestbuy.com"),
        ("migos.ch", "migros.ch"),
        ("paypall.com", "paypal.com"),
        // Part of somebody else's name
        ("amazon.com.evil.example", "amazon.com"),
        ("amazon.evil.example", "amazon.com"),
        ("www.amazon.com.evil.example", "amazon.com"),
        ("amazon.com-pay.example", "amazon.com"),
        ("ikea.shop.example", "ikea.com"),
        ("marks-spencer.co.uk.evil.example", "marks-spencer.co.uk"),
        ("amazon-support.com", "amazon.com"),
        ("secure-amazon.com", "amazon.com"),
        ("my-amaz0n.net", "amazon.com"),
        ("amazonpay.com", "amazon.com"),
        ("bestbuystore.com", "bestbuy.com"),
        ("loginpaypal.com", "paypal.com"),
        // Another ending
        ("amazon.co", "amazon.com"),
        ("amazon.net", "amazon.com"),
        ("amazon.co.uk", "amazon.com"),
        ("migros.com", "migros.ch"),
        ("marks-spencer.com", "marks-spencer.co.uk"),
        ("ikea.shop", "ikea.com"),
        // Names that look like none
        ("example.org", ""),
        ("walmart.com", ""),
        ("zalando.ch", ""),
        ("bestwestern.com", ""),
        ("marks.com", ""),
        ("spencer.co.uk", ""),
        ("ideal.com", ""),
        ("kea.com", ""),
        ("nikea.com", ""),
        ("coop.ch", ""),
        ("amazonas-reisen.ch", ""),
        ("pay.com", ""),
        ("mypal.com", ""),
        ("com.example", ""),
        ("shop.example", ""),
        ("co.uk", ""),
        ("migrolino.ch", ""),
        // Their own names and hosts of theirs
        ("amazon.com", ""),
        ("amazon.com.", ""),
        ("www.amazon.com", ""),
        ("smile.amazon.com", ""),
        ("marks-spencer.co.uk", ""),
        ("", ""),
        (".", ""),
        ("...", ""),
        ("xn--", ""),
    ];
    for (asked, known) in table {
        let found = imitated(asked, KNOWN).unwrap_or_default();
        assert_eq!(found, known, "{asked}");
    }
}

#[test]
fn names_are_read_through_punycode() {
    for label in ["аmazon", "bücher", "раураl", "例え", "ikеa", "ａmazon", "münchen-ost"] {
        assert_eq!(decoded(&encoded(label)).as_deref(), Some(label), "{label}");
    }
    // RFC 3492, 7.1 (B) and a name of common use.
    assert_eq!(decoded("xn--ihqwcrb4cv8a8dqg056pqjye").as_deref(), Some("他们为什么不说中文"));
    assert_eq!(decoded("xn--bcher-kva").as_deref(), Some("bücher"));
    for label in ["аmazon", "amаzon", "amazοn", "amázon"] {
        let written = format!("{}.com", encoded(label));
        assert_eq!(imitated(&written, KNOWN), Some("amazon.com"), "{written}");
    }
    for broken in ["xn--99999999999999", "xn--a-ü", "xn--\u{0}", "amazon"] {
        assert_eq!(decoded(broken), None, "{broken}");
    }
}

#[test]
fn a_name_of_any_length_and_letters_is_looked_at_without_harm() {
    let long = "a.".repeat(5_000);
    let hostile =
        ["\u{202e}moc.nozama", &long, "xn--".repeat(60).as_str(), "\0\0", "-----", "🛒.com"].map(str::to_owned);
    for name in hostile {
        assert_eq!(imitated(&name, KNOWN), None, "{}", name.escape_debug());
    }
}
