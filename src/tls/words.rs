//! What a failed handshake means, in words that say what to do.

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, Error, ExtendedKeyPurpose, PeerIncompatible, PeerMisbehaved,
};

use super::{CaMode, Profile, Table, Version};

/// What `error` in the handshake with `host` means under `profile`, and what to do; names no file's content.
pub fn explain(error: &Error, host: &str, profile: &Profile) -> String {
    match error {
        Error::InvalidCertificate(flaw) => certificate(flaw, host, profile),
        Error::AlertReceived(alert) => refusal(*alert, host, profile),
        Error::InvalidMessage(_) => {
            format!("the server {host} does not speak TLS on this port: should its URL begin with http:// ?")
        }
        Error::PeerIncompatible(flaw) => incompatible(flaw, host, profile),
        Error::NoCertificatesPresented => format!("{host} presented no certificate"),
        other => format!("TLS with {host} failed: {other}"),
    }
}

/// Whether `error`, met after a handshake that had seemed to succeed, is the server's refusal of our side of it:
/// under TLS 1.3 it judges our certificate only then, and reads no request before (RFC 8446 §4.4.2.4).
pub fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::AlertReceived(alert) if *alert == AlertDescription::CertificateRequired
        || *alert == AlertDescription::HandshakeFailure || is_about_certificate(*alert))
}

/// Whether `error`, met on a connection of TLS 1.2, comes of a renegotiation that the server asked for: rustls refuses
/// it with a warning (RFC 5246 §7.2.2), upon which servers give up, or ask again and again.
pub fn is_renegotiation(error: &Error) -> bool {
    matches!(
        error,
        Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::NoRenegotiation)
            | Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests)
    )
}

/// What that means for `host`.
pub fn explain_renegotiation(host: &str) -> String {
    format!(
        "{host} asked for a second TLS handshake on an open connection (renegotiation), which is not spoken here: it \
         must ask for the client certificate in the first one, or speak TLS 1.3"
    )
}

fn certificate(flaw: &CertificateError, host: &str, profile: &Profile) -> String {
    match flaw {
        CertificateError::UnknownIssuer => unknown_issuer(host, profile),
        CertificateError::NotValidForNameContext { expected, presented } => {
            misnamed(expected, &names(presented), host, profile)
        }
        CertificateError::NotValidForName => {
            format!(
                "the certificate of {host} is for another name: set `server_name`{} if that is right",
                own(profile)
            )
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate of {host} expired on {}: its owner must renew it", date(*not_after))
        }
        CertificateError::Expired => {
            format!("the certificate of {host} has expired: its owner must renew it")
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate of {host} is valid only from {}: is the clock right?", date(*not_before))
        }
        CertificateError::NotValidYet => {
            format!("the certificate of {host} is not valid yet: is the clock right?")
        }
        CertificateError::InvalidPurposeContext { required: ExtendedKeyPurpose::ServerAuth, .. }
        | CertificateError::InvalidPurpose => format!(
            "the certificate of {host} is not for servers (its extended key usage lacks serverAuth): \
             its owner must replace it"
        ),
        CertificateError::BadSignature => format!(
            "the certificate of {host} is signed by another key than that of the trusted authority of the same name: \
             {}",
            match ca_files(profile) {
                None => format!("give the authority's current certificate as `ca_file`{}", own(profile)),
                Some(files) =>
                    format!("replace the authority's certificate in `ca_file` {files} by its current one"),
            }
        ),
        CertificateError::Revoked => format!("the certificate of {host} has been revoked"),
        CertificateError::Other(inner) if inner.to_string() == "CaUsedAsEndEntity" => format!(
            "the certificate of {host} is that of an authority itself (a CA used as a leaf): its owner must give the \
             server a certificate of its own, signed by that authority"
        ),
        CertificateError::Other(inner) => unacceptable(host, &inner.to_string()),
        // Its other words quote numbers of ASN.1.
        other => unacceptable(host, format!("{other:?}").split([' ', '(']).next().unwrap_or_default()),
    }
}

fn misnamed(expected: &ServerName<'_>, presented: &str, host: &str, profile: &Profile) -> String {
    let is_address = matches!(expected, ServerName::IpAddress(_));
    let expected = expected.to_str();
    if is_address && presented.split(", ").any(|name| name == expected) {
        return format!(
            "the certificate of {host} has the address {expected} as the name of a host: its owner must have it issued \
             with the address as an IP address (subjectAltName IP:{expected})"
        );
    }
    match profile.server_name {
        None => format!(
            "the certificate of {host} is not for `{expected}` but for {presented}: set `server_name`{} if that is right",
            own(profile)
        ),
        Some(_) => format!(
            "the certificate of {host} is not for `{expected}`, {}, but for {presented}: {}",
            set_name(profile),
            correct_name(host, profile)
        ),
    }
}

/// What is wrong with a certificate for which the verifier has nothing but `word`. It may be that of an authority between
/// the server's and a trusted one, too.
fn unacceptable(host: &str, word: &str) -> String {
    match FLAWS.iter().find(|(names, _)| names.contains(&word)) {
        Some((_, words)) => format!(
            "the certificate of {host}, or one of an authority that came with it, {words}: its owner must replace it"
        ),
        None => format!("the certificate of {host} is not acceptable ({word})"),
    }
}

/// The verifier's words, and ours for them.
const FLAWS: [(&[&str], &str); 9] = [
    (
        &["UnsupportedCertVersion"],
        "is of version 1 of X.509, which has no names of hosts and is not accepted (version 3 is)",
    ),
    (
        &[
            "BadEncoding",
            "ExtensionValueInvalid",
            "InvalidNetworkMaskConstraint",
            "InvalidSerialNumber",
            "MalformedDnsIdentifier",
            "MalformedExtensions",
            "MalformedNameConstraint",
            "SignatureAlgorithmMismatch",
        ],
        "is malformed",
    ),
    (
        &["UnhandledCriticalExtension", "UnsupportedCriticalExtension"],
        "has a critical extension that is not known here",
    ),
    (
        &[
            "UnsupportedSignatureAlgorithm",
            "UnsupportedSignatureAlgorithmContext",
            "UnsupportedSignatureAlgorithmForPublicKeyContext",
        ],
        "is signed in a way that is not accepted, such as with SHA-1",
    ),
    (&["EndEntityUsedAsCa"], "is signed by one that is not an authority's (basicConstraints lacks CA:TRUE)"),
    (&["NameConstraintViolation"], "has a name that an authority above it may not sign (nameConstraints)"),
    (&["UnsupportedNameType"], "is constrained by names of a kind that is not known here (nameConstraints)"),
    (&["PathLenConstraintViolated"], "has more authorities above it than one of them allows (pathlen)"),
    (&["EmptyEkuExtension"], "has an extended key usage without anything in it"),
];

/// What is to be done depends on whether an authority was given, which is then another one.
fn unknown_issuer(host: &str, profile: &Profile) -> String {
    let Some(files) = ca_files(profile) else {
        return format!(
            "the certificate of {host} is signed by an authority that is not trusted: give its certificate as `ca_file`{}",
            own(profile)
        );
    };
    let system = match profile.ca_mode {
        CaMode::Add => " nor among the system's",
        CaMode::Replace => ", and `ca_mode = \"replace\"` leaves the system's out",
    };
    format!(
        "the certificate of {host} is signed by an authority that is not in `ca_file` {files}{system}: \
         add its certificate there (`openssl s_client -showcerts -connect HOST:PORT` shows who signed)"
    )
}

fn name(profile: &Profile) -> &'static str {
    match profile.table {
        Table::Tls => "tls",
        Table::TokenTls => "token_tls",
    }
}

/// Which table a key is to be set in.
fn table(profile: &Profile) -> &'static str {
    match profile.table {
        Table::Tls => " of this integration's `tls`",
        Table::TokenTls => " of this integration's `token_tls` (which takes nothing from `tls`)",
    }
}

/// The same where nobody would look for it elsewhere than in `tls`.
fn own(profile: &Profile) -> &'static str {
    if profile.table == Table::Tls { "" } else { table(profile) }
}

fn set_name(profile: &Profile) -> String {
    format!("the `server_name` of this integration's `{}`", name(profile))
}

/// What to do about a `server_name` that is set, and was perhaps meant for the endpoint alone.
fn correct_name(host: &str, profile: &Profile) -> String {
    match profile.table {
        Table::Tls => {
            format!("correct it, or give {host} a whole `token_tls` of its own if it is the token endpoint")
        }
        Table::TokenTls => "correct it".to_owned(),
    }
}

/// The files that authorities are read from, as they are named; `None` without one.
fn ca_files(profile: &Profile) -> Option<String> {
    let files: Vec<_> = profile.ca_files.iter().map(|path| path.display().to_string()).collect();
    (!files.is_empty()).then(|| files.join(", "))
}

fn refusal(alert: AlertDescription, host: &str, profile: &Profile) -> String {
    let ours = profile.client_cert_file.as_ref().map(|path| path.display());
    match (alert, ours) {
        (AlertDescription::CertificateRequired, None) => format!(
            "{host} demands a client certificate: set `client_cert_file` and `client_key_file`{}",
            table(profile)
        ),
        (AlertDescription::CertificateRequired, Some(file)) => format!(
            "{host} demands a client certificate, and that of `client_cert_file` {file} is by none of the authorities \
             that it accepts"
        ),
        (AlertDescription::ProtocolVersion, _) => versions(host, profile),
        (AlertDescription::UnrecognisedName, _) => match &profile.server_name {
            None => {
                format!(
                    "{host} does not know the name that it was asked for: set `server_name`{}",
                    own(profile)
                )
            }
            Some(name) => format!(
                "{host} does not know the name `{name}`, {}: {}",
                set_name(profile),
                correct_name(host, profile)
            ),
        },
        (AlertDescription::NoApplicationProtocol, _) => format!("{host} does not speak HTTP/1.1 over TLS"),
        (alert, Some(file)) if is_about_certificate(alert) => {
            format!(
                "{host} refused the client certificate of `client_cert_file` {file}: it answered {alert:?}"
            )
        }
        (alert, None) if is_about_certificate(alert) => format!(
            "{host} refused us with {alert:?}: it may demand a client certificate, see `client_cert_file`{}",
            table(profile)
        ),
        (AlertDescription::HandshakeFailure, None) => format!(
            "{host} refused the TLS handshake: it may demand a client certificate, or share no cipher with us"
        ),
        (AlertDescription::HandshakeFailure, Some(file)) => format!(
            "{host} refused the TLS handshake: it may refuse the client certificate of `client_cert_file` {file}, or \
             share no cipher with us"
        ),
        (alert, _) => format!("{host} ended the TLS handshake with {alert:?}"),
    }
}

fn incompatible(flaw: &PeerIncompatible, host: &str, profile: &Profile) -> String {
    match flaw {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => versions(host, profile),
        other => format!("{host} and we have no way of TLS in common: {other:?}"),
    }
}

fn versions(host: &str, profile: &Profile) -> String {
    let least = match profile.min_version {
        Version::Tls12 => "1.2, the lowest that this version speaks".to_owned(),
        Version::Tls13 => format!("1.3, the `min_version` of this integration's `{}`", name(profile)),
    };
    format!("{host} does not speak TLS {least}")
}

/// The alerts that servers answer a client certificate with, or the lack of one.
fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::NoCertificate
    )
}

fn names(presented: &[String]) -> String {
    // rustls writes them as `DnsName("a.example")` and `IpAddress(10.0.0.1)`, and of other kinds only what kind it is.
    let plain = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        inner.trim_matches('"').to_owned()
    };
    match presented {
        [] => "no name at all".to_owned(),
        some => some.iter().map(plain).collect::<Vec<_>>().join(", "),
    }
}

fn date(time: UnixTime) -> String {
    super::validity::date(time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    #[test]
    fn each_refusal_names_the_host_and_the_next_step() {
        let bare = Profile::default();
        let with = Profile { client_cert_file: Some("/etc/client.pem".into()), ..Profile::default() };
        let strict = Profile { min_version: Version::Tls13, ..Profile::default() };
        let cases = [
            (
                AlertDescription::CertificateRequired,
                &bare,
                "demands a client certificate: set `client_cert_file`",
            ),
            (AlertDescription::CertificateRequired, &with, "/etc/client.pem is by none of the authorities"),
            (AlertDescription::BadCertificate, &bare, "may demand a client certificate"),
            (AlertDescription::CertificateExpired, &with, "/etc/client.pem: it answered CertificateExpired"),
            (
                AlertDescription::HandshakeFailure,
                &bare,
                "may demand a client certificate, or share no cipher",
            ),
            (AlertDescription::HandshakeFailure, &with, "may refuse the client certificate"),
            (AlertDescription::ProtocolVersion, &bare, "does not speak TLS 1.2"),
            (AlertDescription::ProtocolVersion, &strict, "does not speak TLS 1.3, the `min_version`"),
            (AlertDescription::UnrecognisedName, &bare, "set `server_name`"),
            (AlertDescription::NoApplicationProtocol, &bare, "does not speak HTTP/1.1 over TLS"),
            (AlertDescription::InternalError, &bare, "ended the TLS handshake with InternalError"),
        ];
        for (alert, profile, words) in cases {
            let text = explain(&Error::AlertReceived(alert), "a.example", profile);
            assert!(text.contains("a.example") && text.contains(words), "{alert:?} gave {text}");
        }
    }

    #[test]
    fn what_is_to_be_set_is_named_with_its_table() {
        let bare = Profile { table: Table::TokenTls, ..Profile::default() };
        let strict = Profile { min_version: Version::Tls13, ..bare.clone() };
        let named = Profile { server_name: Some("b.example".to_owned()), ..bare.clone() };
        let inherited = Profile { table: Table::Tls, ..named.clone() };
        let unknown = AlertDescription::UnrecognisedName;
        for (alert, profile, words) in [
            (
                AlertDescription::CertificateRequired,
                &bare,
                "_key_file` of this integration's `token_tls` (which",
            ),
            (AlertDescription::BadCertificate, &bare, "`client_cert_file` of this integration's `token_tls`"),
            (AlertDescription::ProtocolVersion, &strict, "`min_version` of this integration's `token_tls`"),
            (unknown, &bare, "set `server_name` of this integration's `token_tls`"),
            (unknown, &named, "`b.example`, the `server_name` of this integration's `token_tls`: correct it"),
            (
                unknown,
                &inherited,
                "`b.example`, the `server_name` of this integration's `tls`: correct it, or",
            ),
        ] {
            let text = explain(&Error::AlertReceived(alert), "a.example", profile);
            assert!(text.contains(words), "{alert:?} gave {text}");
        }
    }

    #[test]
    fn a_certificate_for_another_name_says_for_which_names_and_addresses_it_is() {
        let presented = ["DnsName(\"b.example\")", "IpAddress(10.0.0.1)", "DirectoryName"].map(str::to_owned);
        let flaw = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("a.example").unwrap(),
            presented: presented.to_vec(),
        };
        let told =
            |profile: &Profile| explain(&Error::InvalidCertificate(flaw.clone()), "a.example", profile);
        let text = told(&Profile::default());
        let expected = "is not for `a.example` but for b.example, 10.0.0.1, DirectoryName: set `server_name`";
        assert!(text.contains(expected), "{text}");
        let named = Profile { server_name: Some("a.example".to_owned()), ..Profile::default() };
        let text = told(&named);
        assert!(
            text.contains("`a.example`, the `server_name` of this integration's `tls`, but for"),
            "{text}"
        );
        assert!(text.ends_with("a whole `token_tls` of its own if it is the token endpoint"), "{text}");
        let text = told(&Profile { table: Table::TokenTls, ..named });
        assert!(
            text.ends_with("correct it") && text.contains("of this integration's `token_tls`, but"),
            "{text}"
        );
    }

    #[test]
    fn an_address_in_the_place_of_a_hosts_name_is_told_from_one_that_is_an_address() {
        let told = |presented: &str| {
            let expected = ServerName::try_from("127.0.0.1").unwrap();
            let presented = vec![presented.to_owned()];
            let flaw = CertificateError::NotValidForNameContext { expected, presented };
            explain(&Error::InvalidCertificate(flaw), "127.0.0.1:8443", &Profile::default())
        };
        let text = told("DnsName(\"127.0.0.1\")");
        assert!(text.contains("as the name of a host") && text.contains("IP:127.0.0.1"), "{text}");
        assert!(told("IpAddress(127.0.0.2)").contains("is not for `127.0.0.1` but for 127.0.0.2"));
    }

    #[test]
    fn a_rare_flaw_is_told_in_words_and_none_in_those_of_a_program() {
        let other =
            |word: &'static str| CertificateError::Other(OtherError(Arc::new(std::io::Error::other(word))));
        let told = |flaw| explain(&Error::InvalidCertificate(flaw), "a.example", &Profile::default());
        for (flaw, words) in [
            (other("UnsupportedCertVersion"), "is of version 1 of X.509"),
            (other("CaUsedAsEndEntity"), "is that of an authority itself"),
            (other("PathLenConstraintViolated"), "(pathlen): its owner must replace it"),
            (CertificateError::BadEncoding, "is malformed"),
            (
                CertificateError::UnsupportedSignatureAlgorithmContext {
                    signature_algorithm_id: vec![6, 1],
                    supported_algorithms: vec![],
                },
                "such as with SHA-1",
            ),
        ] {
            let text = told(flaw);
            assert!(text.starts_with("the certificate of a.example") && text.contains(words), "{text}");
            assert!(!text.contains("Error") && !text.contains('['), "{text}");
        }
        assert!(told(other("SomethingNew")).ends_with("is not acceptable (SomethingNew)"));
    }

    #[test]
    fn an_unknown_authority_is_told_by_the_file_that_lacks_it() {
        let told = |flaw, profile: &Profile| explain(&Error::InvalidCertificate(flaw), "a.example", profile);
        let bare = Profile::default();
        let with =
            Profile { ca_files: vec!["/etc/ca.pem".into(), "/etc/b.pem".into()], ..Profile::default() };
        let alone = Profile { ca_mode: CaMode::Replace, ..with.clone() };
        for flaw in [CertificateError::UnknownIssuer, CertificateError::BadSignature] {
            assert!(told(flaw.clone(), &bare).contains("certificate as `ca_file`"));
            let token = Profile { table: Table::TokenTls, ..Profile::default() };
            assert!(told(flaw.clone(), &token).contains("`ca_file` of this integration's `token_tls`"));
            for profile in [&with, &alone] {
                let text = told(flaw.clone(), profile);
                assert!(
                    text.contains("`ca_file` /etc/ca.pem, /etc/b.pem") && !text.contains("as `ca_file`"),
                    "{text}"
                );
            }
        }
        assert!(told(CertificateError::UnknownIssuer, &with).contains("nor among the system's"));
        assert!(told(CertificateError::UnknownIssuer, &alone).contains("`ca_mode = \"replace\"`"));
    }

    #[test]
    fn a_renegotiation_is_known_by_what_servers_do_when_it_is_refused() {
        for sign in [
            Error::AlertReceived(AlertDescription::HandshakeFailure),
            Error::AlertReceived(AlertDescription::NoRenegotiation),
            Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests),
        ] {
            assert!(is_renegotiation(&sign), "{sign}");
        }
        assert!(!is_renegotiation(&Error::AlertReceived(AlertDescription::InternalError)));
        assert!(explain_renegotiation("a.example").starts_with("a.example asked for a second TLS handshake"));
    }

    #[test]
    fn only_what_refuses_our_side_is_a_late_refusal() {
        assert!(is_refusal(&Error::AlertReceived(AlertDescription::CertificateRequired)));
        assert!(!is_refusal(&Error::AlertReceived(AlertDescription::InternalError)));
        assert!(!is_refusal(&Error::DecryptError));
    }
}
