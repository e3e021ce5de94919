use super::*;
use clap::CommandFactory;
use clap::error::ErrorKind;

fn parse(args: &[&str]) -> Result<GetArgs, clap::Error> {
    let cli = Cli::try_parse_from(["dlm", "get"].iter().chain(args))?;
    match cli.command {
        Command::Get(args) => Ok(*args),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_option_is_understood() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let args = parse(&[
        "-o",
        "out.iso",
        "-d",
        "dir",
        "-m",
        "https://m1/f",
        "--mirror",
        "https://m2/f",
        "-c",
        "8",
        "-j",
        "2",
        "-i",
        "urls.txt",
        "--checksum",
        &digest,
        "--limit",
        "1.5MiB/s",
        "--header",
        "X-Token: a:b",
        "--header",
        "Accept: */*",
        "--max-size",
        "4GiB",
        "--retries",
        "0",
        "--timeout",
        "500ms",
        "--no-resume",
        "--on-exists",
        "rename",
        "--no-mtime",
        "--json",
        "-vv",
        "--ca-certificate",
        "ca.pem",
        "--insecure",
        "--user",
        "me:a:b",
        "--select",
        "*.iso",
        "--select",
        "b/**",
        "--list-files",
        "--no-follow",
        "https://h/f",
    ])
    .unwrap();
    assert_eq!(args.urls.len(), 1);
    assert_eq!(args.mirrors.len(), 2);
    assert_eq!((args.connections, args.jobs, args.retries), (Some(8), 2, Some(0)));
    assert_eq!((args.limit, args.max_size), (Some(1_572_864), Some(4 << 30)));
    assert_eq!(args.timeout, Some(Duration::from_millis(500)));
    assert_eq!(args.on_exists, OnExists::Rename);
    assert_eq!(args.headers[0].name(), "X-Token");
    assert_eq!(args.headers[0].value(), "a:b");
    assert_eq!(args.user.as_ref().map(|u| (u.user(), u.password())), Some(("me", "a:b")));
    assert_eq!(args.checksum.map(|d| d.to_string()), Some(format!("sha-256:{}", "ab".repeat(32))));
    assert_eq!(args.verbose, 2);
    assert!(args.json && args.insecure && args.no_mtime && args.no_resume);
    assert_eq!(args.select.len(), 2);
    assert!(args.list_files && args.no_follow);
}

#[cfg(feature = "bittorrent")]
#[test]
fn every_option_about_torrents_is_understood() {
    let args = parse(&[
        "--torrent",
        "a",
        "--torrent",
        "-",
        "--peer",
        "[::1]:6881",
        "--tracker",
        "https://t.example/key/announce",
        "--seed",
        "ratio=2",
        "--listen",
        "127.0.0.1:6881",
        "--upload-limit",
        "1M",
        "--max-peers",
        "7",
    ])
    .unwrap()
    .swarm;
    assert_eq!(args.torrents, ["a", "-"].map(PathBuf::from));
    assert_eq!(args.peers[0].to_string(), "[::1]:6881");
    assert_eq!(args.trackers[0].as_str(), "https://t.example/key/announce");
    assert_eq!(args.seed.goal().ratio, Some(2.0));
    assert_eq!(args.listen.map(|l| l.port()), Some(6881));
    assert_eq!((args.upload_limit, args.max_peers), (Some(1_000_000), Some(7)));
}

#[cfg(feature = "bittorrent")]
#[test]
fn what_makes_no_sense_about_torrents_is_refused() {
    for args in [
        ["--peer", "h"],
        ["--peer", "h:0"],
        ["--tracker", "ftp://h/announce"],
        ["--tracker", "http://127.0.0.1/reboot"],
        ["--seed", "ratio=x"],
        ["--listen", "6881"],
        ["--upload-limit", "0"],
        ["--max-peers", "0"],
    ] {
        let error = parse(&[&args[..], &["https://h/f"]].concat()).expect_err(&args.join(" "));
        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{args:?}: {error}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let url = "https://h/f";
    for (args, kind) in [
        (&[][..], ErrorKind::MissingRequiredArgument),
        (&["h/f"], ErrorKind::ValueValidation),
        (&[url, "-c", "0"], ErrorKind::ValueValidation),
        (&[url, "-c", "257"], ErrorKind::ValueValidation),
        (&[url, "-j", "0"], ErrorKind::ValueValidation),
        (&[url, "--limit", "fast"], ErrorKind::ValueValidation),
        (&[url, "--limit", "0"], ErrorKind::ValueValidation),
        (&[url, "--max-size", "1q"], ErrorKind::ValueValidation),
        (&[url, "--timeout", "0"], ErrorKind::ValueValidation),
        (&[url, "--checksum", "sha256:abc"], ErrorKind::ValueValidation),
        (&[url, "--checksum", "crc32:00000000"], ErrorKind::ValueValidation),
        (&[url, "--header", "no colon"], ErrorKind::ValueValidation),
        (&[url, "--header", "a b: c"], ErrorKind::ValueValidation),
        (&[url, "--header", "A: b\r\nC: d"], ErrorKind::ValueValidation),
        (&[url, "--user", "name"], ErrorKind::ValueValidation),
        (&[url, "--user", ":password"], ErrorKind::ValueValidation),
        (&[url, "--select", "["], ErrorKind::ValueValidation),
        (&[url, "--on-exists", "panic"], ErrorKind::InvalidValue),
        (&[url, "-q", "-v"], ErrorKind::ArgumentConflict),
        (&[url, "--fast"], ErrorKind::UnknownArgument),
    ] {
        let error = parse(args).expect_err(&args.join(" "));
        assert_eq!(error.kind(), kind, "{args:?}: {error}");
        assert_eq!(error.exit_code(), 2, "{args:?}");
    }
}

#[test]
fn secrets_are_not_in_the_debug_text() {
    let args = parse(&["--user", "me:hunter2", "--header", "Cookie: hunter2", "https://me:hunter2@h/f?k=hunter2"]);
    let text = format!("{:?}", args.unwrap());
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn the_long_help_has_examples_units_and_exit_codes() {
    let error = parse(&["--help"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
    let help = error.to_string();
    for part in ["Examples:", "dlm get -q -o -", "powers of 1000", "Exit codes:", "130  interrupted"] {
        assert!(help.contains(part), "{part} in {help}");
    }
}
