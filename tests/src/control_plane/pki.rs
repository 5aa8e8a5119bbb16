//! Keys, certificates and kubeconfigs of one control plane, as files in its folder.
//!
//! One CA signs the API server's certificate and those of its users: a name is who someone is, an
//! organisation is a group, as Kubernetes reads client certificates. ServiceAccount tokens are signed
//! by an RSA key of its own, which tests may use too, to make the tokens that no API server gives out.
//!
//! Every key is made anew for each control plane and goes with its folder.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_encoding::BASE64URL_NOPAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SanType, SigningKey as _,
};
use serde_json::{Value, json};

type Ca = CertifiedIssuer<'static, KeyPair>;

/// The name of the one node there may be.
pub const NODE_NAME: &str = "node";
/// The name of the cluster's DNS server, as RBAC knows it.
pub const DNS_USER: &str = "remotemount-tests:dns";

/// What was written, and where.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    url: String,
    admin_kubeconfig: PathBuf,
    ca_pem: String,
    token_key: KeyPair,
}

impl Pki {
    /// Writes everything into `folder`, for an API server at that address and port.
    pub fn create(folder: &Path, address: Ipv4Addr, api_server_port: u16) -> Result<Pki> {
        let ca = authority()?;
        let token_key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let pki = Pki {
            folder: folder.to_path_buf(),
            url: format!("https://{address}:{api_server_port}"),
            admin_kubeconfig: folder.join("admin.kubeconfig"),
            ca_pem: ca.pem(),
            token_key,
        };
        pki.write("ca.crt", &pki.ca_pem)?;
        pki.write("token.key", &pki.token_key.serialize_pem())?;
        pki.write("token.pub", &pki.token_key.public_key_pem())?;
        pki.write_leaf(&ca, "kube-apiserver", server_parameters(address)?)?;
        for (file, name, group) in [
            ("admin", "admin", "system:masters"),
            ("controller-manager", "system:kube-controller-manager", "system:authenticated"),
            ("scheduler", "system:kube-scheduler", "system:authenticated"),
            ("kubelet", &format!("system:node:{NODE_NAME}"), "system:nodes"),
            ("kube-proxy", "system:kube-proxy", "system:authenticated"),
            ("dns", DNS_USER, "system:authenticated"),
        ] {
            pki.write_leaf(&ca, file, user_parameters(name, group)?)?;
            let user = json!({"client-certificate": pki.path(&format!("{file}.crt")), "client-key": pki.path(&format!("{file}.key"))});
            pki.write_kubeconfig(&format!("{file}.kubeconfig"), name, &user)?;
        }
        Ok(pki)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub fn ca(&self) -> PathBuf {
        self.path("ca.crt")
    }

    pub fn token_key(&self) -> PathBuf {
        self.path("token.key")
    }

    pub fn token_public_key(&self) -> PathBuf {
        self.path("token.pub")
    }

    pub fn api_server_certificate(&self) -> PathBuf {
        self.path("kube-apiserver.crt")
    }

    pub fn api_server_key(&self) -> PathBuf {
        self.path("kube-apiserver.key")
    }

    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// The certificate and key of the administrator, which the API server shows to a kubelet.
    pub fn admin_certificate(&self) -> (PathBuf, PathBuf) {
        (self.path("admin.crt"), self.path("admin.key"))
    }

    /// The kubeconfig of a part of Kubernetes: `controller-manager`, `scheduler`, `kubelet`, `kube-proxy` or `dns`.
    pub fn kubeconfig_of_part(&self, part: &str) -> PathBuf {
        self.path(&format!("{part}.kubeconfig"))
    }

    /// A kubeconfig for the one who has that bearer token.
    pub fn write_token_kubeconfig(&self, file: &str, user: &str, token: &str) -> Result<PathBuf> {
        self.write_kubeconfig(file, user, &json!({"token": token}))
    }

    /// A token with those claims, signed by the key that the API server trusts.
    pub fn sign_token(&self, claims: &Value) -> Result<String> {
        let header = json!({"alg": "RS256", "typ": "JWT"});
        let encode = |part: &Value| BASE64URL_NOPAD.encode(part.to_string().as_bytes());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.token_key.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    fn write(&self, file: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    fn write_leaf(&self, ca: &Ca, name: &str, parameters: CertificateParams) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, ca).with_context(|| format!("signing {name}"))?;
        self.write(&format!("{name}.crt"), &certificate.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())?;
        Ok(())
    }

    fn write_kubeconfig(&self, file: &str, name: &str, user: &Value) -> Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": self.url, "certificate-authority": self.ca()}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": name}}],
            "current-context": "tests",
        });
        self.write(file, &serde_yaml::to_string(&config)?)
    }
}

fn authority() -> Result<Ca> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "RemoteMount tests");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(parameters, KeyPair::generate()?).context("making the CA")
}

fn server_parameters(address: Ipv4Addr) -> Result<CertificateParams> {
    // 10.96.0.1 is the first address of the service range: what the Service `kubernetes` gets.
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
    let mut parameters = CertificateParams::new(names.map(str::to_owned))?;
    for address in BTreeSet::from([Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 96, 0, 1), address]) {
        parameters.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(address)));
    }
    parameters.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(parameters)
}

fn user_parameters(name: &str, group: &str) -> Result<CertificateParams> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.distinguished_name.push(DnType::OrganizationName, group);
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(parameters)
}
