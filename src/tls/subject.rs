//! Whom a certificate names, read from its DER: for people, as RFC 4514 writes it.

use pkcs8::der::asn1::{AnyRef, ObjectIdentifier};
use pkcs8::der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};
use rustls::pki_types::CertificateDer;

/// The short names of RFC 4514 §3, and the two that are common besides.
const NAMES: [(&str, &str); 11] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.5", "serialNumber"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The subject of `certificate`, such as `CN=runner,O=Corp`; empty where it names none, `None` if it cannot be read.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<String> {
    let mut file = SliceReader::new(certificate).ok()?;
    let whole = AnyRef::decode(&mut file).ok()?;
    let signed = AnyRef::decode(&mut SliceReader::new(whole.value()).ok()?).ok()?;
    let mut fields = SliceReader::new(signed.value()).ok()?;
    // A version, which may be left out, then serial number, signature algorithm, issuer and validity.
    let first = AnyRef::decode(&mut fields).ok()?;
    for _ in 0..if first.tag().is_context_specific() { 4 } else { 3 } {
        AnyRef::decode(&mut fields).ok()?;
    }
    let subject = AnyRef::decode(&mut fields).ok()?;
    let mut names: Vec<String> = inside(&subject)?.iter().map(set).collect::<Option<_>>()?;
    // RFC 4514 §2.1: the last comes first.
    names.reverse();
    Some(names.join(","))
}

/// One relative name: mostly one attribute, else several with `+` between them.
fn set(set: &AnyRef<'_>) -> Option<String> {
    let attributes = inside(set)?;
    let written: Option<Vec<String>> = attributes.iter().map(attribute).collect();
    Some(written?.join("+"))
}

fn attribute(attribute: &AnyRef<'_>) -> Option<String> {
    let [kind, value] = inside(attribute)?.try_into().ok()?;
    let kind = kind.decode_as::<ObjectIdentifier>().ok()?.to_string();
    let name = NAMES.iter().find(|(number, _)| *number == kind).map_or(kind.as_str(), |(_, name)| name);
    Some(format!("{name}={}", escaped(&text(&value))))
}

fn inside<'a>(any: &AnyRef<'a>) -> Option<Vec<AnyRef<'a>>> {
    let (mut reader, mut found) = (SliceReader::new(any.value()).ok()?, Vec::new());
    while !reader.is_finished() {
        found.push(AnyRef::decode(&mut reader).ok()?);
    }
    Some(found)
}

fn text(value: &AnyRef<'_>) -> String {
    let bytes = value.value();
    if value.tag() == Tag::BmpString {
        let units: Vec<u16> =
            bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        return String::from_utf16_lossy(&units);
    }
    String::from_utf8_lossy(bytes).into_owned()
}

/// RFC 4514 §2.4.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (n, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            '#' if n == 0 => out.push_str("\\#"),
            ' ' if n == 0 || n == last => out.push_str("\\ "),
            c if c.is_control() => c.to_string().bytes().for_each(|b| out.push_str(&format!("\\{b:02x}"))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn subject(names: &[(DnType, &str)]) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        let key = KeyPair::generate().unwrap();
        of(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn the_last_name_comes_first_and_unknown_kinds_are_numbers() {
        let names = [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Corp, Inc."),
            (DnType::CustomDnType(vec![1, 2, 3]), "x"),
            (DnType::CommonName, " run\u{1}ner"),
        ];
        assert_eq!(subject(&names), r"CN=\ run\01ner,1.2.3=x,O=Corp\, Inc.,C=DE");
        assert_eq!(subject(&[]), "");
    }

    #[test]
    fn what_is_no_certificate_has_no_subject() {
        for garbage in [&b""[..], b"\x30\x03\x30\x01\x02", b"\xff\xff\xff"] {
            assert_eq!(of(&CertificateDer::from(garbage)), None);
        }
    }
}
