//! From when until when a certificate is valid, read from its DER: rustls tells it only of a peer's, and too late.

use std::path::Path;
use std::time::{Duration, SystemTime};

use pkcs8::der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use pkcs8::der::{Decode as _, SliceReader, Tag, Tagged as _};
use rustls::pki_types::CertificateDer;

use super::pem::{certificates, says};

/// From when until when a certificate is valid (RFC 5280 §4.1.2.5), in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before then; 0 for any time before the epoch.
    pub not_before: u64,
    /// Not after then.
    pub not_after: u64,
}

impl Validity {
    /// That of `certificate`; `None` if it cannot be read, of which others complain.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let mut file = SliceReader::new(certificate).ok()?;
        let whole = AnyRef::decode(&mut file).ok()?;
        let signed = AnyRef::decode(&mut SliceReader::new(whole.value()).ok()?).ok()?;
        let mut fields = SliceReader::new(signed.value()).ok()?;
        // A version, which may be left out, then serial number, signature algorithm and issuer.
        let first = AnyRef::decode(&mut fields).ok()?;
        for _ in 0..if first.tag().is_context_specific() { 3 } else { 2 } {
            AnyRef::decode(&mut fields).ok()?;
        }
        let validity = AnyRef::decode(&mut fields).ok()?;
        let mut times = SliceReader::new(validity.value()).ok()?;
        let (not_before, not_after) = (time(&mut times), time(&mut times)?);
        Some(Self { not_before: not_before.unwrap_or(0), not_after })
    }

    /// What is wrong with it now, if something is: `has expired on …`, `is valid only from …`.
    pub fn flaw(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if now > self.not_after {
            Some(format!("expired on {}: renew it", date(self.not_after)))
        } else if now < self.not_before {
            Some(format!("is valid only from {}: is the clock right?", date(self.not_before)))
        } else {
            None
        }
    }
}

/// The earliest end of the certificates of `chain`, in seconds since the epoch.
pub(super) fn earliest(chain: &[CertificateDer<'_>]) -> Option<u64> {
    chain.iter().filter_map(Validity::of).map(|validity| validity.not_after).min()
}

/// Refuses a chain in the file `path`, which `key` of the configuration names, whose leaf is not valid now.
pub(super) fn check(key: &str, path: &Path, text: &str) -> Result<(), String> {
    let chain = certificates(key, path, text)?;
    match chain.first().and_then(Validity::of).and_then(|validity| validity.flaw(SystemTime::now())) {
        Some(flaw) => Err(says(key, path, format_args!("has a certificate that {flaw}"))),
        None => Ok(()),
    }
}

/// A time of `seconds` since the epoch, for people.
pub fn date(seconds: u64) -> String {
    // The year 9999 is the last that a certificate can name.
    let seconds = seconds.min(253_402_300_799);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The next time; `None` if it is before the epoch or none at all. What cannot be read is passed over.
fn time(from: &mut SliceReader<'_>) -> Option<u64> {
    let any = AnyRef::decode(from).ok()?;
    let time = match any.tag() {
        Tag::UtcTime => any.decode_as::<UtcTime>().ok()?.to_unix_duration(),
        Tag::GeneralizedTime => any.decode_as::<GeneralizedTime>().ok()?.to_unix_duration(),
        _ => return None,
    };
    Some(time.as_secs())
}

#[cfg(test)]
mod tests {
    use rcgen::date_time_ymd;
    use rustls::pki_types::pem::PemObject as _;

    use super::super::testing::{Authority, Pair};
    use super::super::{expiry, load, read};
    use super::*;

    const JANUARY_2040: u64 = 2_208_988_800;
    const JANUARY_2060: u64 = 2_840_140_800;

    fn lasting(authority: &Authority, from: i32, until: i32) -> Pair {
        authority.issue(&["client.example"], |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        })
    }

    #[test]
    fn validity_is_read_in_either_form_of_a_time() {
        let authority = Authority::new();
        for (from, until, not_before, not_after) in
            [(1975, 2040, 157_766_400, JANUARY_2040), (1960, 2060, 0, JANUARY_2060)]
        {
            let pair = lasting(&authority, from, until);
            let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
            assert_eq!(Validity::of(&certificate), Some(Validity { not_before, not_after }));
            for length in 0..certificate.len() / 2 {
                Validity::of(&certificate[..length].into());
            }
        }
        assert_eq!(Validity::of(&b"\x30\x03\x02\x01\x01".as_slice().into()), None);
    }

    #[test]
    fn the_certificate_of_a_chain_that_ends_first_tells_when_it_ends() {
        let authority = Authority::new();
        let (leaf, next) = (lasting(&authority, 2020, 2060), lasting(&authority, 2020, 2040));
        let chain = Pair { certificate: format!("{}{}", leaf.certificate, next.certificate), ..leaf };
        let profile = authority.trusted_with(&chain);
        assert_eq!(expiry(&profile), Some(JANUARY_2040));
        assert_eq!(read(&profile).unwrap().expiry(), Some(JANUARY_2040));
        assert_eq!(expiry(&authority.trusted()), None);
        std::fs::remove_file(profile.client_cert_file.as_ref().unwrap()).unwrap();
        assert_eq!(expiry(&profile), None);
    }

    #[test]
    fn a_client_certificate_that_is_not_valid_now_is_refused_with_the_date() {
        let authority = Authority::new();
        for (from, until, words) in [
            (2020, 2021, "has a certificate that expired on Fri, 01 Jan 2021 00:00:00 GMT: renew it"),
            (2090, 2091, "is valid only from Sun, 01 Jan 2090 00:00:00 GMT: is the clock right?"),
        ] {
            let profile = authority.trusted_with(&lasting(&authority, from, until));
            let error = load(&profile).unwrap_err();
            assert!(error.contains(words) && error.contains("client.pem"), "{error}");
            assert!(expiry(&profile).is_some());
        }
    }
}
