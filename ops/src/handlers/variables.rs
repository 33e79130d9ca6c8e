//! The environment of programs: a small one, so that the worker's secrets stay with the worker, and without any name by which
//! a flow could choose what a program does.

use std::{collections::BTreeSet, ffi::OsString};

use longhaul_schema::Error;

/// What every program is given of the worker's environment.
const ALWAYS: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"];

/// Names that flows can never set: by them one chooses code, files of settings or servers for programs of all kinds.
const NEVER: &str = "\
    PATH HOME SHELL ENV IFS CDPATH SHELLOPTS BASHOPTS BASH_ENV PS4 PROMPT_COMMAND PAGER MANPAGER EDITOR VISUAL \
    BROWSER LESSOPEN LESSCLOSE SSH_ASKPASS SUDO_ASKPASS TERMINFO TERMINFO_DIRS TERMCAP TMPDIR LOCPATH NLSPATH \
    HOSTALIASES RES_OPTIONS LOCALDOMAIN GETCONF_DIR GCONV_PATH RESOLV_HOST_CONF CLASSPATH MAKEFLAGS MFLAGS \
    GNUMAKEFLAGS TAR_OPTIONS GZIP BZIP BZIP2 XZ_OPT XZ_DEFAULTS ZSTD_CLEVEL RSYNC_RSH CVS_RSH GREP_OPTIONS AWKPATH \
    AWKLIBPATH WGETRC CURL_HOME NETRC OPENSSL_CONF OPENSSL_MODULES OPENSSL_ENGINES SSL_CERT_FILE SSL_CERT_DIR \
    SSLKEYLOGFILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE KUBECONFIG DATABASE_URL ALL_PROXY FTP_PROXY HTTP_PROXY \
    HTTPS_PROXY NO_PROXY ZDOTDIR FPATH MODULESHOME RUSTC RUSTFLAGS RUSTDOC CC CXX LD JDK_JAVA_OPTIONS _JAVA_OPTIONS \
    JAVA_TOOL_OPTIONS JAVA_OPTS R_HOME PGPASSWORD PGSERVICE GOPATH GOFLAGS GOROOT GOBIN GOENV GOPROXY MAGIC \
    GS_OPTIONS GS_LIB";

/// Whole families of such names.
const NEVER_BEGINS: &str = "\
    LD_ DYLD_ BASH_FUNC_ PYTHON PERL RUBY GEM_ BUNDLE_ GIT_ SSH_ NODE_ NPM_ DENO_ BUN_ JAVA_ JDK_ MAVEN_ GRADLE_ \
    DOTNET_ COMPLUS_ CORECLR_ MONO_ LUA_ PHP R_ JULIA_ CARGO_ RUST_ RUSTUP_ GLIBC_ MALLOC_ GCC_ GUILE_ OCAML ERL_ \
    ELIXIR_ MIX_ HEX_ XDG_ PG MYSQL_ LONGHAUL_ AWS_ AZURE_ GOOGLE_ CLOUDSDK_ DOCKER_ KUBE VAULT_ GNUPG GPG_ MAGICK_ \
    FONTCONFIG_ GTK_ QT_ GIO_ SYSTEMD_ DBUS_";

/// What programs are given.
#[derive(Debug)]
pub(super) struct Variables {
    passed: Vec<(OsString, OsString)>,
    settable: BTreeSet<String>,
}

impl Variables {
    /// `pass`: names whose values are passed on from the worker's environment; `settable`: names that flows may set.
    pub(super) fn new(pass: &[String], settable: &[String]) -> Result<Self, Error> {
        for name in pass.iter().chain(settable) {
            if !is_name(name) {
                return Err(Error::Invalid(format!("{name:?} is no name of an environment variable")));
            }
        }
        if let Some(name) = settable.iter().find(|name| is_dangerous(name)) {
            return Err(Error::Invalid(dangerous(name)));
        }
        let names = ALWAYS.iter().copied().chain(pass.iter().map(String::as_str));
        let passed = names.filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect();
        Ok(Self { passed, settable: settable.iter().cloned().collect() })
    }

    /// From the worker's environment.
    pub(super) fn passed(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.passed.iter().map(|(name, value)| (name, value))
    }

    /// Whether flows may set it on this worker.
    pub(super) fn is_settable(&self, name: &str) -> bool {
        self.settable.contains(name)
    }
}

/// Why a flow can never set a name, if it cannot.
pub(super) fn refusal(name: &str) -> Option<String> {
    if !is_name(name) {
        return Some(format!("{name:?} is no name of an environment variable"));
    }
    is_dangerous(name).then(|| dangerous(name))
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_dangerous(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    NEVER.split(' ').any(|never| never == name) || NEVER_BEGINS.split(' ').any(|begin| name.starts_with(begin))
}

fn dangerous(name: &str) -> String {
    format!("flows can never set {name}: it can choose what a program does")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_chooses_code_can_never_be_set() {
        for name in [
            "PATH",
            "LD_PRELOAD",
            "ld_preload",
            "BASH_ENV",
            "PYTHONSTARTUP",
            "GIT_SSH_COMMAND",
            "NODE_OPTIONS",
            "https_proxy",
        ] {
            assert!(refusal(name).is_some(), "{name}");
            assert!(Variables::new(&[], &[name.to_owned()]).is_err(), "{name}");
        }
        for name in ["", "A=B", "1A", "A B", "BASH_FUNC_x%%", "Ä"] {
            assert!(Variables::new(&[], &[name.to_owned()]).is_err(), "{name}");
        }
        assert!(Variables::new(&[], &["COLOUR".into()]).unwrap().is_settable("COLOUR"));
    }
}
