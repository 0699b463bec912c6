//! Services of a compose.yaml on Docker, through the binary itself.

use std::io::{Read as _, Write as _};

use crate::docker::{Scenario, project};
use crate::harness::{Project, until};
use crate::leaks;
use crate::place::Place;
use crate::support::{Blobs, Pack, Tar, busybox, plain};

pub const SCENARIOS: &[Scenario] = &[
    ("three_services_are_kept_and_only_what_changed_is_recreated", three_services),
    ("a_dependency_that_fails_stops_what_needs_it", a_dependency_that_fails),
    ("secrets_and_configs_appear_as_files", secrets_and_configs),
    ("services_reach_each_other_by_name_and_share_namespaces", names_and_namespaces),
    ("each_command_after_a_start_runs_as_itself_says", after_a_start),
    ("mistakes_in_a_compose_file_are_told_with_their_place", mistakes),
    ("a_stack_in_a_manifest_stands_beside_environments", beside_environments),
];

const STACK: &str = r#"
name: three
services:
  db:
    image: base:1
    command: ["sh", "-c", "test -e /data/born || date > /data/born; touch /data/ready; exec sleep 100000"]
    init: true
    volumes: ["data:/data"]
    environment: { DB_PASSWORD: "${DB_PASSWORD:-very-hidden}" }
    healthcheck: { test: ["CMD", "test", "-e", "/data/ready"], interval: 500ms, retries: 20 }
  migrate:
    image: base:1
    command: ["sh", "-c", "echo migrated >> /data/log"]
    volumes: ["data:/data"]
    depends_on: { db: { condition: service_healthy } }
  web:
    build: ./web
    init: true
    ports: ["127.0.0.1:18090:8000"]
    depends_on: { db: { condition: service_healthy }, migrate: { condition: service_completed_successfully } }
volumes: { data: {} }
"#;

fn stack(place: &Place) -> Project {
    let project = project(place, "");
    project.write("compose.yaml", STACK).write("web/index.html", "hello").write("web/unused", "1");
    let dockerfile =
        "FROM base:1\nCOPY index.html /www/\nCMD [\"httpd\", \"-f\", \"-p\", \"8000\", \"-h\", \"/www\"]\n";
    project.write("web/Dockerfile", dockerfile);
    project
}

/// The page, as it comes through the published port in the engine's own network.
fn page(project: &Project) -> String {
    let outcome = project.run(&["exec", "db", "--", "wget", "-qO-", "http://web:8000/"]);
    outcome.exits(0);
    outcome.stdout.trim().to_owned()
}

/// The containers of a project's units.
fn ids(place: &Place, project: &Project) -> Vec<(String, String)> {
    let format = "{{.Label \"dev.setpoint.unit\"}} {{.ID}} {{.Label \"dev.setpoint.labels\"}}";
    let all = place.docker(&["ps", "-a", "--format", format]);
    let of_project = all.lines().filter(|line| line.contains(&*project.root.to_string_lossy()));
    let mut pairs = Vec::new();
    for mut words in of_project.map(str::split_whitespace) {
        let (unit, id) = (words.next().unwrap(), words.next().unwrap());
        pairs.push((unit.rsplit_once('-').unwrap().0.to_owned(), id.to_owned()));
    }
    pairs
}

fn id(place: &Place, project: &Project, unit: &str) -> String {
    ids(place, project).into_iter().find(|(name, _)| name == unit).map(|(_, id)| id).unwrap_or_default()
}

fn three_services(place: &Place) {
    let project = stack(place);
    project.run(&["plan"]).exits(0).says("db: create").says("web: create");
    let outcome = project.up();
    outcome.says("Using compose.yaml on docker (no setpoint.toml)").says("db healthy");
    until("the page is there", || page(&project) == "hello");
    let again = project.up();
    again.says("db: nothing to do").says("migrate: nothing to do").says("web: nothing to do");
    project.run(&["status"]).exits(0).says("running, healthy").says("completed");
    let before = ids(place, &project);
    // A file that the image has not, one that it has, a setting of one service.
    project.write("web/unused", "2");
    project.run(&["plan", "--exit-code"]).exits(0);
    project.write("web/index.html", "changed");
    project.run(&["plan"]).exits(0).says("db: nothing to do").says("web: make the base available");
    project.up().says("db: nothing to do");
    until("the page has changed", || page(&project) == "changed");
    assert_ne!(id(place, &project, "web"), before.iter().find(|(name, _)| name == "web").unwrap().1);
    let (web, born) =
        (id(place, &project, "web"), project.run(&["exec", "db", "--", "cat", "/data/born"]).stdout);
    project.edit("compose.yaml", "very-hidden", "other-hidden");
    let why = project.run(&["why"]);
    why.exits(0).says("DB_PASSWORD").says("db: 1 change").says_not("other-hidden").says_not("very-hidden");
    project.run(&["plan"]).says("db: recreate").says("web: nothing to do");
    project.up().says("web: nothing to do");
    assert_eq!(id(place, &project, "web"), web);
    assert_eq!(project.run(&["exec", "db", "--", "cat", "/data/born"]).stdout, born);
    assert_eq!(project.run(&["exec", "db", "--", "cat", "/data/log"]).stdout, "migrated\n");
    project.run(&["stop"]).exits(0);
    project.run(&["status"]).exits(0).says_not("running");
    project.up();
    assert_eq!(project.run(&["exec", "db", "--", "cat", "/data/born"]).stdout, born);
    project.run(&["down"]).exits(0);
    assert_eq!(id(place, &project, "db"), "");
    assert!(place.docker(&["volume", "ls"]).contains("three_data"));
    assert!(!place.docker(&["network", "ls"]).contains("three_default"));
    project.run(&["down", "--volumes"]).exits(6).says("three_data");
    assert!(place.docker(&["volume", "ls"]).contains("three_data"));
    project.run(&["down", "--volumes", "--yes"]).exits(0);
    assert!(!place.docker(&["volume", "ls"]).contains("three_data"));
}

fn a_dependency_that_fails(place: &Place) {
    let project = project(place, "");
    let text = "name: failing\nservices:\n  job:\n    image: base:1\n    command: [sh, -c, \"echo no luck; exit 3\"]\n  web:\n    image: base:1\n\
                \x20   command: [sleep, '1000']\n    init: true\n    depends_on: { job: { condition: service_completed_successfully } }\n";
    project.write("compose.yaml", text);
    project
        .run(&["up"])
        .exits(1)
        .says("web needs job completed: it ended (exit 3)")
        .says("setpoint logs job");
    project.run(&["logs", "job"]).exits(0).says("no luck");
    project.edit("compose.yaml", "exit 3", "exit 0");
    project.up();
    project.run(&["status"]).says("completed").says("running");
}

fn secrets_and_configs(place: &Place) {
    let mut project = project(place, "");
    let text = "name: files\nservices:\n  app:\n    image: base:1\n    command: [sleep, '1000']\n    init: true\n    secrets: [token, key]\n\
                \x20   configs: [{ source: settings, target: /etc/settings }]\nsecrets:\n  token: { environment: APP_TOKEN }\n\
                \x20 key: { file: ./key }\nconfigs:\n  settings: { content: \"a=${LEVEL:-1}\" }\n";
    project.write("compose.yaml", text).write("key", "k1");
    project.run(&["up"]).exits(4).says("APP_TOKEN").says("not set");
    project.set("APP_TOKEN", "t1");
    project.up();
    let read = |project: &Project| {
        let outcome = project.run(&[
            "exec",
            "app",
            "--",
            "cat",
            "/run/secrets/token",
            "/run/secrets/key",
            "/etc/settings",
        ]);
        outcome.exits(0).stdout.clone()
    };
    assert_eq!(read(&project), "t1k1a=1");
    project.write("key", "k2");
    project.run(&["why", "app"]).exits(0).says("secret key");
    project.up();
    assert_eq!(read(&project), "t1k2a=1");
}

fn names_and_namespaces(place: &Place) {
    let project = project(place, "");
    let text = "name: names\nservices:\n  one:\n    image: base:1\n    command: [httpd, -f, -p, '8000', -h, /etc]\n    init: true\n    hostname: first\n\
                \x20   networks: { back: { aliases: [uno] } }\n  two:\n    image: base:1\n    command: [sleep, '1000']\n    init: true\n\
                \x20   network_mode: service:one\n    depends_on: [one]\n  three:\n    image: base:1\n    command: [sleep, '1000']\n    init: true\n\
                \x20   networks: [back, front]\nnetworks: { back: { internal: true }, front: {} }\n";
    project.write("compose.yaml", text);
    project.up();
    let passwd = |unit: &str, host: &str| {
        project.run(&["exec", unit, "--", "wget", "-qO-", &format!("http://{host}:8000/passwd")]).stdout
    };
    until("the server answers", || passwd("three", "one").contains("root:"));
    assert!(passwd("three", "uno").contains("root:"));
    assert!(passwd("two", "127.0.0.1").contains("root:"));
    let interfaces = project.run(&["exec", "three", "--", "ls", "/sys/class/net"]).stdout;
    assert_eq!(
        interfaces.split_whitespace().filter(|name| name.starts_with("eth")).count(),
        2,
        "{interfaces}"
    );
    project.run(&["down"]).exits(0);
    assert!(!place.docker(&["network", "ls"]).contains("names_"));
}

fn after_a_start(place: &Place) {
    let project = project(place, "");
    let text = r#"services:
  web:
    image: base:1
    command: [sleep, "100000"]
    init: true
    environment: { WORD: service }
    volumes: ["said:/said"]
    post_start:
      - command: [sh, -c, "umask 0; echo $$(id -un) $$(pwd) $$WORD >> /said/log"]
        working_dir: /etc
      - command: [sh, -c, "echo $$(id -un) $$(pwd) $$WORD >> /said/log"]
        user: dev
        working_dir: /home/dev
        environment: { WORD: own }
      - command: [sh, -c, "echo $$(id -un) $$(pwd) $$WORD >> /said/log"]
volumes: { said: {} }
"#;
    project.write("compose.yaml", text);
    project.up();
    let said = || project.run(&["exec", "web", "--", "cat", "/said/log"]).exits(0).stdout.clone();
    assert_eq!(said(), "root /etc service\ndev /home/dev own\nroot / service\n");
    project.run(&["up"]).says("nothing to do");
    project.edit("compose.yaml", "WORD: own", "WORD: other");
    project.run(&["why"]).exits(0).says("post_start");
    project.up();
    assert!(said().ends_with("dev /home/dev other\nroot / service\n"), "{}", said());
    project.run(&["up"]).says("nothing to do");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

fn mistakes(place: &Place) {
    let project = project(place, "");
    project.write("compose.yaml", "services:\n  web:\n    image: base:1\n    comand: [true]\n    depends_on: [bd]\n  db: { image: base:1 }\n");
    let outcome = project.run(&["up"]);
    outcome
        .exits(4)
        .says("compose.yaml:4:5")
        .says("did you mean `command`?")
        .says("`bd`")
        .says("did you mean `db`?");
    project.write("compose.yaml", "services:\n  web:\n    image: base:1\n    ports: [\"80:\"]\n");
    project.run(&["plan"]).exits(4).says("compose.yaml:4");
}

fn beside_environments(place: &Place) {
    let project = project(
        place,
        "setpoint = 1\n[engine]\ndefault = \"docker\"\n[env.dev]\nimage = \"base:1\"\n[stack]\ncompose = \"deploy/compose.yaml\"\n",
    );
    project.write("deploy/compose.yaml", "name: beside\nservices:\n  echo:\n    image: base:1\n    command: [sh, -c, 'read line; exec sleep 1000']\n    stdin_open: true\n    init: true\n");
    project.run(&["up"]).exits(0).says("dev is up").says("echo is up");
    project.run(&["up"]).exits(0).says("dev: nothing to do").says("echo: nothing to do");
    // What a service says is followed as it comes.
    let mut follow = project.start(&mut project.command(&["logs", "echo", "--follow"]));
    project.run(&["exec", "echo", "--", "sh", "-c", "echo from inside > /proc/1/fd/1 || true"]).exits(0);
    let mut heard = [0_u8; 4];
    let _ = follow.stdin.take().map(|mut input| input.write_all(b""));
    follow.stdout.take().unwrap().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"from");
    follow.kill().unwrap();
    follow.wait().unwrap();
    project.declare("deploy/compose.yaml", "deploy/none.yaml");
    project.run(&["up"]).exits(4).says("cannot read deploy/none.yaml");
    project.declare("deploy/none.yaml", "deploy/compose.yaml");
}

const OWN_STACK: &str = r#"
name: own
services:
  db:
    image: IMAGE
    user: root
    network_mode: host
    command: ["sh", "-c", "test -e /data/born || sleep 1; test -e /data/born || echo $$RANDOM > /data/born; : > /data/ready; echo $$WORD; exec sleep 100000"]
    volumes: ["data:/data"]
    environment: { WORD: "one" }
    healthcheck: { test: ["CMD", "test", "-e", "/data/ready"], interval: 200ms, retries: 20 }
  migrate:
    image: IMAGE
    user: root
    network_mode: host
    command: ["sh", "-c", "echo migrated >> /data/log"]
    volumes: ["data:/data"]
    depends_on: { db: { condition: service_healthy } }
  web:
    image: IMAGE
    user: root
    network_mode: host
    restart: always
    command: ["httpd", "-f", "-p", "127.0.0.1:PORT", "-h", "/www"]
    volumes: ["./www:/www:ro"]
    depends_on: { migrate: { condition: service_completed_successfully } }
volumes: { data: {} }
"#;

/// A stack with no daemon at all, on an image that lies beside it.
pub fn on_the_embedded_engine(_: &Place) {
    let project = Project::new("setpoint = 1\n[stack]\ncompose = \"compose.yaml\"\n");
    let image = image(&project, "own");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = OWN_STACK.replace("IMAGE", &image.to_string_lossy()).replace("PORT", &port.to_string());
    project.write("compose.yaml", &text).write("www/index.html", "hello");
    let read = |path: &str| project.run(&["exec", "db", "--", "cat", path]).stdout;
    let page =
        || project.run(&["exec", "db", "--", "wget", "-qO-", &format!("http://127.0.0.1:{port}/")]).stdout;
    project.run(&["plan"]).exits(0).says("db: create").says("web: create");
    project.up().says("db healthy");
    until("the page is there", || page() == "hello");
    project
        .run(&["up"])
        .exits(0)
        .says("db: nothing to do")
        .says("migrate: nothing to do")
        .says("web: nothing");
    project.run(&["status"]).exits(0).says("running, healthy").says("completed");
    project.run(&["logs", "db"]).exits(0).says("one");
    let born = read("/data/born");
    // A setting of one service, and what of it is restarted.
    project.edit("compose.yaml", "WORD: \"one\"", "WORD: \"two\"");
    project.run(&["why"]).exits(0).says("db: 1 change").says("WORD");
    project.run(&["plan"]).says("db: restart").says("migrate: nothing to do").says("web: nothing to do");
    project.up().says("web: nothing to do");
    project.run(&["logs", "db"]).exits(0).says("two");
    assert_eq!((read("/data/born"), read("/data/log")), (born.clone(), "migrated\n".to_owned()));
    // What ended by itself is seen, and started again.
    project.run(&["exec", "db", "--", "sh", "-c", "killall -9 sleep"]);
    until("it has ended", || project.run(&["status"]).stdout.contains("stopped"));
    project.up().says("web: nothing to do");
    project.run(&["down"]).exits(0);
    project.up();
    assert_eq!(read("/data/born"), born);
    project.run(&["down", "--volumes", "--yes"]).exits(0).says("own_data");
    // What the engine does not have is refused by name, and nothing is made.
    project.edit("compose.yaml", "    network_mode: host\n    restart", "    ports: ['80']\n    restart");
    project.run(&["up", "web"]).exits(7).says("on any free port of the host").says("80:80");
    project.edit("compose.yaml", "    ports: ['80']", "    network_mode: host\n    ports: ['80:80']");
    project.run(&["up", "web"]).exits(7).says("without a network of its own");
    project.edit("compose.yaml", "    ports: ['80:80']", "    privileged: true");
    project.run(&["up", "web"]).exits(7).says("the setting `privileged`");
    project.run(&["down"]).exits(0);
}

const OWN_NETWORKS: &str = r#"
name: nets
services:
  db:
    image: IMAGE
    user: root
    command: ["sh", "-c", "echo stored > /tmp/index.html; exec httpd -f -p 8000 -h /tmp"]
    networks: [back]
  web:
    image: IMAGE
    user: root
    command: ["httpd", "-f", "-p", "8000", "-h", "/www"]
    volumes: ["./www:/www:ro"]
    ports: ["127.0.0.1:PORT:8000"]
    extra_hosts: ["host.docker.internal:host-gateway"]
    networks: { front: {}, back: { aliases: [shop] } }
    healthcheck: { test: ["CMD", "wget", "-qO-", "http://db:8000/"], interval: 200ms, retries: 50 }
    depends_on: [db]
  probe:
    image: IMAGE
    user: root
    command: ["sleep", "100000"]
    depends_on: { web: { condition: service_healthy } }
networks: { front: {}, back: { internal: true } }
"#;

/// What says the server at a port of this machine.
fn page_at(port: u16) -> Option<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    said.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned())
}

/// An ordinary stack, whose services have networks of their own.
pub fn in_networks_of_its_own(_: &Place) {
    let project = Project::new("setpoint = 1\n[stack]\ncompose = \"compose.yaml\"\n");
    let text = OWN_NETWORKS.replace("IMAGE", &image(&project, "own").to_string_lossy());
    if !rustix::process::geteuid().is_root() {
        project.write("compose.yaml", &text.replace("PORT", "18099"));
        project.run(&["up"]).exits(7).says("without the rights of root").says("network_mode: host");
        return;
    }
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    project.write("compose.yaml", &text.replace("PORT", &port.to_string())).write("www/index.html", "hello");
    // Somebody else has the port.
    project.run(&["up", "web"]).exits(7).says(&format!("127.0.0.1:{port}/tcp is in use by engines"));
    drop(held);
    project.up();
    until("the page is there", || page_at(port).as_deref() == Some("hello"));
    let from = |unit: &str, at: &str| {
        project
            .run(&["exec", unit, "--", "wget", "-qO-", &format!("http://{at}:8000/")])
            .stdout
            .trim()
            .to_owned()
    };
    assert_eq!((from("db", "shop"), from("db", "web")), ("hello".to_owned(), "hello".to_owned()));
    assert_eq!((from("web", "db"), from("probe", "web")), ("stored".to_owned(), String::new()));
    let hosts = |unit: &str| project.run(&["exec", unit, "--", "cat", "/etc/hosts"]).exits(0).stdout.clone();
    assert!(hosts("web").contains("host.docker.internal") && !hosts("db").contains("host.docker.internal"));
    // A unit keeps its address, and is known again when it is back.
    let before = hosts("web");
    project.run(&["stop", "db"]).exits(0);
    assert!(!hosts("web").contains("db"), "{}", hosts("web"));
    project.up().says("web: nothing to do");
    assert_eq!(hosts("web"), before);
    // Its shim gone, its port is free.
    project.run(&["stop", "web"]).exits(0);
    assert_eq!(page_at(port), None);
    project.up();
    until("the page is there again", || page_at(port).as_deref() == Some("hello"));
    // Who has a port is told by its name, where it is one of ours.
    let twin = format!(
        "  twin:\n    image: {0}\n    command: [sleep, '9']\n    ports: ['{port}:1']\n",
        image(&project, "own").display()
    );
    project.edit("compose.yaml", "  probe:\n", &format!("{twin}  probe:\n"));
    project.run(&["up", "twin"]).exits(7).says(&format!("{port}/tcp is in use by `web` of"));
    project.run(&["down", "twin"]).exits(0);
    let at = project.state();
    let at = at.parent().unwrap();
    let devices = leaks::devices(at);
    assert_eq!(devices.len(), 3, "{devices:?}");
    assert!(devices.iter().all(|device| std::path::Path::new("/sys/class/net").join(device).exists()));
    project.run(&["down"]).exits(0);
    assert!(leaks::devices(at).is_empty());
    for device in devices {
        assert!(!std::path::Path::new("/sys/class/net").join(&device).exists());
        for (program, words) in [("iptables-save", vec![]), ("nft", vec!["list", "ruleset"])] {
            let rules = std::process::Command::new(program).args(words).output();
            assert!(!rules.is_ok_and(|rules| String::from_utf8_lossy(&rules.stdout).contains(&device)));
        }
    }
}

/// An environment whose ports are its own, and those that are published of them.
pub fn an_environment_of_its_own(_: &Place) {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    drop(held);
    let manifest =
        |ports: &str| format!("setpoint = 1\n[env.dev]\nnetwork = \"private\"\nports = [{ports}]\n");
    let project = Project::new(&manifest(&format!("\"{port}:8000\"")));
    project.write("index.html", "hello");
    if !rustix::process::geteuid().is_root() {
        project.run(&["up"]).exits(7).says("without the rights of root").says("network = \"host\"");
        return;
    }
    project.up();
    let serve = ["exec", "dev", "--", "busybox", "httpd", "-p", "8000", "-h", "/workspace"];
    project.run(&serve).exits(0);
    until("the page is there", || page_at(port).as_deref() == Some("hello"));
    assert!(project.run(&["exec", "dev", "--", "ls", "/sys/class/net"]).stdout.contains("eth0"));
    // Its ports change while it runs.
    project.write("setpoint.toml", &manifest(""));
    project.up().says("environment, limits and ports").says_not("stop");
    assert_eq!(page_at(port), None);
    project.write("setpoint.toml", &manifest(&format!("\"{port}:8000\"")));
    project.up();
    assert_eq!(page_at(port).as_deref(), Some("hello"));
    project.run(&["down"]).exits(0);
}

/// The head of a manifest whose units are those of a compose file beside it.
pub const HEAD: &str = "setpoint = 1\n[stack]\ncompose = \"compose.yaml\"\n";

/// An image of busybox that lies beside a project.
pub fn image(project: &Project, note: &str) -> std::path::PathBuf {
    let mut blobs = Blobs::default();
    let programs = ["test", "cat", "sleep", "httpd", "wget", "killall", "env"];
    let links = programs.iter().fold(Tar::default(), |tar, name| tar.link(&format!("bin/{name}"), "busybox"));
    let accounts = links.dir("tmp/", 0o1777).file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n").end();
    let entry = blobs.image(&[(busybox(note), plain as Pack), (accounts, plain)]);
    let image = project.root.join("image");
    blobs.layout(&entry, &image);
    image
}
