//! The prompt of a shell in a lab: the node's name, before the user's own prompt.
//!
//! A shell's start files set its prompt, so the name has to come behind them.
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// Makes `command`, which starts this shell, show `node` in its prompt. A lab's folders are there.
pub(super) fn set(command: &mut Command, shell: &Path, node: &str) {
    // Shells that read no file of this kind, or whose file cannot be written.
    command.env("PS1", format!("({node}) # "));
    let folder = Path::new(FOLDER);
    let done = match shell.file_name().and_then(|name| name.to_str()) {
        Some("bash") => write(folder, "bashrc", BASH).map(|()| {
            command.arg("--rcfile").arg(folder.join("bashrc"));
        }),
        Some("zsh") => write(folder, ".zshenv", ZSH_ENV)
            .and_then(|()| write(folder, ".zshrc", ZSH))
            .map(|()| {
                let own = env::var_os("ZDOTDIR").or_else(|| env::var_os("HOME"));
                command.env("NEARLAB_ZDOTDIR", own.unwrap_or_default()).env("ZDOTDIR", folder);
            }),
        Some("fish") => {
            command.args(["--init-command", FISH]);
            Ok(())
        }
        _ => Ok(()),
    };
    if let Err(error) = done {
        log::warn!("the prompt may not show the node: cannot write to {FOLDER}: {error}");
    }
}

/// The same text whoever writes it, so two at once do no harm.
fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(name), text)
}

/// In the lab's own /run.
const FOLDER: &str = "/run/nearlab/shell";

const BASH: &str = r#"[ -f /etc/bash.bashrc ] && . /etc/bash.bashrc
[ -f ~/.bashrc ] && . ~/.bashrc
case $PS1 in
    "($NEARLAB_NODE) "*) ;;
    *) PS1="($NEARLAB_NODE) $PS1" ;;
esac
"#;

const ZSH_ENV: &str = r#"[ -f "$NEARLAB_ZDOTDIR/.zshenv" ] && . "$NEARLAB_ZDOTDIR/.zshenv"
ZDOTDIR=/run/nearlab/shell
"#;

const ZSH: &str = r#"ZDOTDIR=$NEARLAB_ZDOTDIR
[ -f "$ZDOTDIR/.zshrc" ] && . "$ZDOTDIR/.zshrc"
case $PS1 in
    "($NEARLAB_NODE) "*) ;;
    *) PS1="($NEARLAB_NODE) $PS1" ;;
esac
"#;

const FISH: &str = "functions --copy fish_prompt nearlab_own_prompt; \
    function fish_prompt; printf '(%s) ' $NEARLAB_NODE; nearlab_own_prompt; end";
