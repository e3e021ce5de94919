//! Certificates for tests, made on the spot.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// A certificate authority that nobody knows, unless told to.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key, in PEM files. They are there as long as their [`Authority`].
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Cert {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    ///
    /// If the temporary folder can't be written to.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "dlm test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    /// The PEM file for those who are told to trust it.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A good certificate for 127.0.0.1 and localhost.
    pub fn cert(&self) -> Cert {
        self.issue("good", &["127.0.0.1", "localhost"], (2020, 4096))
    }

    /// One that is good for another host.
    pub fn cert_for_another_host(&self) -> Cert {
        self.issue("other", &["other.example"], (2020, 4096))
    }

    /// One for this host whose time is over.
    pub fn expired_cert(&self) -> Cert {
        self.issue("expired", &["127.0.0.1", "localhost"], (2000, 2001))
    }

    fn issue(&self, name: &str, hosts: &[&str], (from, to): (i32, i32)) -> Cert {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, "dlm test server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let file = |suffix: &str, text: String| {
            let path: PathBuf = Path::new(self.dir.path()).join(format!("{name}.{suffix}"));
            fs::write(&path, text).unwrap();
            path
        };
        Cert { cert: file("pem", cert.pem()), key: file("key", key.serialize_pem()) }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
