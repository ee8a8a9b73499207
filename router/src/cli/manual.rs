//! Manual pages and completion scripts, generated from the grammar.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::args::Cli;
use super::output::{Failure, answer};

pub(super) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nearhop", &mut script);
    let script = with_names(shell, String::from_utf8_lossy(&script).into_owned());
    io::stdout().lock().write_all(script.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A script that completes names of a running router too.
fn with_names(shell: Shell, script: String) -> String {
    match shell {
        Shell::Bash => script + BASH,
        Shell::Fish => script + FISH,
        Shell::Zsh => {
            // What completes a word knows only the words behind its command.
            let whole = "_nearhop() {\n    local -a nearhop_words=(\"${(@)words[2,CURRENT]}\")\n";
            let script = script.replacen("_nearhop() {\n", whole, 1);
            let script = NAMED.iter().fold(script, |script, help| {
                script.replace(&format!("{help}:_default'"), &format!("{help}:_nearhop_names'"))
            });
            let only = "::only -- ";
            let lines = script.lines().map(|line| {
                let is_name = line.contains(only);
                if is_name {
                    line.replace(":_default'", ":_nearhop_names'")
                } else {
                    line.to_owned()
                }
            });
            lines.collect::<Vec<_>>().join("\n").replacen(
                "_nearhop() {",
                &format!("{ZSH}_nearhop() {{"),
                1,
            ) + "\n"
        }
        _ => script,
    }
}

/// Prints one page for all commands, or writes a page per command to `dir`.
pub(super) fn man(dir: Option<&Path>) -> Result<ExitCode, Failure> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        io::stdout().lock().write_all(&page)?;
        return Ok(ExitCode::SUCCESS);
    };
    let written =
        fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    if let Err(error) = written {
        let message = format!("cannot write manual pages to {}: {error}", dir.display());
        return Err(Failure::environment(message));
    }
    answer(format!("manual pages are in {}", dir.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// What the help of arguments says that are names of a running router.
const NAMED: [&str; 3] =
    ["Name of the site", "Name of the playbook", "The blocked prefix, or an address"];

const BASH: &str = r#"
_nearhop_with_names() {
    _nearhop "$@"
    local names current=${COMP_WORDS[COMP_CWORD]}
    names=$("$1" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ -n $names ]]; then
        COMPREPLY=( $(compgen -W "$names" -- "$current") )
    fi
}

complete -F _nearhop_with_names -o bashdefault -o default nearhop
"#;

const FISH: &str = r#"
complete -c nearhop -n "__fish_seen_subcommand_from drain undrain disable enable playbook show unblock" -f -a "(nearhop __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)"
"#;

const ZSH: &str = r#"_nearhop_names() {
    local -a names=("${(@f)$(nearhop __complete "${nearhop_words[@]}" 2>/dev/null)}")
    compadd -- "${(@)names:#}"
}

"#;
