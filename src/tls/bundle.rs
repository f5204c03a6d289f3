//! The authorities of a profile as one PEM text: for programs beside us that are told whom to trust by a file's name.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{CaMode, Profile, pem};

/// How long a line of PEM is (RFC 7468 §2).
const LINE: usize = 64;

/// The system's authorities and those of the profile's `ca_file`, or the latter alone where they replace the former.
/// `None` where the profile names none: the system's own file says all then.
///
/// # Errors
///
/// A file that cannot be read, naming key and file.
pub fn bundle(profile: &Profile) -> Result<Option<String>, String> {
    if profile.ca_files.is_empty() {
        return Ok(None);
    }
    let mut text = String::new();
    if profile.ca_mode == CaMode::Add {
        for certificate in rustls_native_certs::load_native_certs().certs {
            block(&certificate, &mut text);
        }
    }
    for path in &profile.ca_files {
        text.push_str(&pem::text("ca_file", path)?);
        text.push('\n');
    }
    Ok(Some(text))
}

fn block(der: &[u8], to: &mut String) {
    to.push_str("-----BEGIN CERTIFICATE-----\n");
    let encoded = BASE64_STANDARD.encode(der);
    for start in (0..encoded.len()).step_by(LINE) {
        to.push_str(&encoded[start..encoded.len().min(start + LINE)]);
        to.push('\n');
    }
    to.push_str("-----END CERTIFICATE-----\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Authority;

    /// How many certificates are in a text, as the same reader sees them that reads a user's own.
    fn count(text: &str) -> usize {
        pem::certificates("ca_file", std::path::Path::new("bundle"), text).unwrap().len()
    }

    #[test]
    fn a_profile_without_authorities_of_its_own_needs_no_bundle() {
        assert_eq!(bundle(&Profile::default()), Ok(None));
    }

    #[test]
    fn given_authorities_stand_beside_the_systems_or_alone() {
        let authority = Authority::new();
        let alone = authority.trusted();
        let added = Profile { ca_mode: CaMode::Add, ..alone.clone() };
        let (added, alone) = (bundle(&added).unwrap().unwrap(), bundle(&alone).unwrap().unwrap());
        assert_eq!(count(&alone), 1);
        assert_eq!(count(&added), 1 + rustls_native_certs::load_native_certs().certs.len());
    }

    #[test]
    fn a_missing_file_is_named() {
        let profile = Profile { ca_files: vec!["/no/such/ca.pem".into()], ..Profile::default() };
        assert!(bundle(&profile).unwrap_err().contains("/no/such/ca.pem"));
    }
}
