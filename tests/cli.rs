//! The program as a user meets it, before anything is downloaded: help, pages, scripts, and what it refuses.

use std::io::Read;

use dlm_testing::{Dlm, Finished};

fn dlm(args: &[&str]) -> Finished {
    Dlm::new(env!("CARGO_BIN_EXE_dlm")).args(args).run()
}

#[test]
fn help_and_version() {
    let help = dlm(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for subcommand in ["get", "torrent", "completions", "man"] {
        assert!(help.text().contains(&format!("\n  {subcommand}")), "{}", help.text());
    }
    let help = dlm(&["get", "--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.text().contains("Exit codes:"), "{}", help.text());
    assert_eq!(dlm(&["--version"]).text(), format!("dlm {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn manual_pages() {
    let page = dlm(&["man"]);
    assert_eq!(page.code, Some(0));
    assert!(page.text().contains(".TH dlm 1"), "{}", page.text());
    let page = dlm(&["man", "get"]);
    assert!(page.text().contains(".TH dlm-get 1"), "{}", page.text());
    assert!(page.text().contains("on\\-exists"), "{}", page.text());
    let page = dlm(&["man", "torrent", "create"]);
    assert!(page.text().contains(".TH dlm-torrent-create 1"), "{}", page.text());
    assert_eq!(dlm(&["man", "nothing"]).code, Some(2));
}

#[test]
fn completions_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = dlm(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{shell}");
        assert!(script.text().contains("on-exists"), "{shell}: {}", script.text());
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let (process, mut stdout) = Dlm::new(env!("CARGO_BIN_EXE_dlm")).args(["completions", "bash"]).spawn();
    stdout.read_exact(&mut [0; 1]).unwrap();
    drop(stdout);
    let done = process.wait();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
}

#[test]
fn what_makes_no_sense_exits_with_2_and_says_why() {
    let url = "http://127.0.0.1:1/f";
    for (args, why) in [
        (&[][..], "Usage: dlm"),
        (&["get"], "required"),
        (&["get", "example.org/f"], "not a URL"),
        (&["get", url, "--limit", "fast"], "not a number"),
        (&["get", url, "--checksum", "md5:00"], "wrong length"),
        (&["get", url, url, "-o", "x"], "--output belongs to one URL, but there are 2"),
        (&["get", url, url, "-m", url], "--mirror belongs to one URL"),
        (&["get", url, "-o", "-", "--json"], "standard output"),
        (&["get", "-i", "/nonexistent/list"], "cannot read /nonexistent/list"),
    ] {
        let done = dlm(args);
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(why), "{args:?}: {}", done.stderr);
        assert!(done.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_list_on_standard_input_is_read() {
    let list = "# nothing but\n\ncomments\n";
    let done = Dlm::new(env!("CARGO_BIN_EXE_dlm")).args(["get", "-i", "-"]).input(list).run();
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("line 3: not a URL"), "{}", done.stderr);
}

#[test]
fn what_is_refused_is_not_repeated_where_it_may_be_a_secret() {
    let url = "http://127.0.0.1:1/f";
    for (args, why) in [
        (&["get", url, "--header", "Authorization Bearer hunter2"][..], "--header <NAME: VALUE>': a header is written"),
        (&["get", url, "--user", "hunter2"], "--user <USER:PASSWORD>': a login is written"),
        (&["get", "htps//u:hunter2@h/f"], "URL]...': not a URL"),
        (&["get", url, "--mirror", "u//hunter2@h/f"], "--mirror <URL>'"),
        (&["https://u:hunter2@h/f"], "dlm get URL"),
        (&["torrent", "create", "f", "http://t/hunter2/announce"], "an argument too many"),
        (&["torrent", "create", "f", "http://t/hunter2/announce"], "Usage: dlm torrent create"),
        (&["get", url, "--on-exists", "https://u:hunter2@h/f"], "--on-exists <WHAT>'"),
    ] {
        let done = dlm(args);
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(why), "{args:?}: {}", done.stderr);
        assert!(!done.stderr.contains("hunter2"), "{args:?}: {}", done.stderr);
    }
}
