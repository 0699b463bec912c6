//! A registry of one's own on a free port of this machine.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use serde_json::Value;
use setpoint_runtime::image::Source;

use crate::support::{Blobs, INDEX, MANIFEST};

/// `ann` and `opensesame`, as bcrypt writes it.
const LOGIN: &str = "ann:$2y$05$abcdefghijklmnopqrstuuQbLfdQZSxZ9gjhA5V9o8Tyc6aQRO0Qi\n";

/// The user and the password of one with a login.
pub(crate) const USER: (&str, &str) = ("ann", "opensesame");

/// Those of another one, and how its file has them.
#[allow(dead_code, reason = "not all suites that share this have two registries")]
pub(crate) const OTHER: (&str, &str) = ("ben", "closebutton");
const OTHER_LOGIN: &str = "ben:$2y$05$abcdefghijklmnopqrstuuFDe4pokeHPRsoqwhF3b4oxrwESdpVpK\n";

/// A registry that ends with its test.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    child: Child,
    /// The same, in the networks of others.
    elsewhere: Vec<Child>,
    pub(crate) address: String,
    auth: RegistryAuth,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Server {
    pub(crate) fn open() -> Server {
        Server::start(None)
    }

    pub(crate) fn with_login() -> Server {
        Server::start(Some((LOGIN, USER)))
    }

    /// One that lets somebody else in.
    #[allow(dead_code, reason = "not all suites that share this have two registries")]
    pub(crate) fn with_other_login() -> Server {
        Server::start(Some((OTHER_LOGIN, OTHER)))
    }

    fn start(login: Option<(&str, (&str, &str))>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        // Another process may take the port between the two binds; then another is tried.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let path = folder.path().display();
            let mut config = format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {path}/data\n\
                 http:\n  addr: {address}\n  secret: none\n"
            );
            if let Some((file, _)) = login {
                std::fs::write(folder.path().join("htpasswd"), file).unwrap();
                config.push_str(&format!("auth:\n  htpasswd:\n    realm: test\n    path: {path}/htpasswd\n"));
            }
            std::fs::write(folder.path().join("config.yml"), config).unwrap();
            let mut child = Command::new("/usr/bin/docker-registry")
                .arg("serve")
                .arg(folder.path().join("config.yml"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("this test needs a registry: apt-get install docker-registry");
            let until = Instant::now() + Duration::from_secs(20);
            while Instant::now() < until && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(&address).is_ok() {
                    let auth = match login {
                        Some((_, (user, password))) => {
                            RegistryAuth::Basic(user.to_owned(), password.to_owned())
                        }
                        None => RegistryAuth::Anonymous,
                    };
                    return Server { folder, child, elsewhere: Vec::new(), address, auth };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("the registry did not start");
    }

    pub(crate) fn stop(&mut self) {
        for child in self.elsewhere.iter_mut().chain([&mut self.child]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Serves the same at the same address to whoever is in the network of this process.
    #[allow(dead_code, reason = "not all suites that share this have engines in networks of their own")]
    pub(crate) fn also_for(&mut self, pid: u32) {
        let child = Command::new("nsenter")
            .args(["--target", &pid.to_string(), "--net", "--", "/usr/bin/docker-registry", "serve"])
            .arg(self.folder.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.elsewhere.push(child);
    }

    /// A reference to this registry.
    pub(crate) fn source(&self, name: &str) -> Source {
        Source::Reference(format!("{}/{name}", self.address))
    }

    /// Pushes all blobs, and the last of the manifests by the given name.
    pub(crate) fn push(&self, blobs: &Blobs, manifests: &[&Value], name: &str) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
        let client = Client::try_from(config).unwrap();
        let named: Reference = format!("{}/{name}", self.address).parse().unwrap();
        runtime.block_on(async {
            client.auth(&named, &self.auth, RegistryOperation::Push).await.unwrap();
            for (digest, bytes) in &blobs.all {
                client.push_blob(&named, bytes.clone(), digest).await.unwrap();
            }
            for (at, manifest) in manifests.iter().enumerate() {
                let digest = manifest["digest"].as_str().unwrap().to_owned();
                let kind = if manifest["mediaType"] == INDEX { INDEX } else { MANIFEST };
                let target = if at + 1 == manifests.len() {
                    named.clone()
                } else {
                    named.clone_with_digest(digest.clone())
                };
                let body = blobs.all[&digest].clone();
                client.push_manifest_raw(&target, body, kind.parse().unwrap()).await.unwrap();
            }
        });
    }

    /// Where the registry keeps a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let path = format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        self.folder.path().join(path)
    }
}
