import Appliance

extension Verb {
    static let completions = Verb(
        "completions",
        .connect,
        "print what makes a shell complete commands and flags",
        details: """
            bash: eval "$(llm-cli-gateway completions bash)" in ~/.bashrc
            zsh:  eval "$(llm-cli-gateway completions zsh)" in ~/.zshrc, after compinit
            fish: llm-cli-gateway completions fish | source, in config.fish
            Run at each start of the shell, it always fits the installed version.
            """,
        operand: ("SHELL", "bash, zsh or fish"),
        offers: .words(CompletionScript.Shell.allCases.map(\.rawValue)),
        style: .text,
        isQuestion: true
    ) { call throws(GatewayError) in
        let name = try call.arguments.requiredOperand()
        guard let shell = CompletionScript.Shell(rawValue: name) else {
            let known = CompletionScript.Shell.allCases.map(\.rawValue)
            let nearest = Suggestion.nearest(to: name, among: known)
            throw GatewayError(
                "invalid-value",
                "there are no completions for the shell '\(name)'",
                help: (nearest.map { "did you mean '\($0)'? " } ?? "")
                    + "the known ones are \(known.joined(separator: ", "))"
            )
        }
        return CompletionScript(shell: shell, verbs: Verb.all.filter { $0.group != nil })
    }
}

/// What a shell reads to complete our command lines, from the table of commands.
struct CompletionScript: Report {
    enum Shell: String, Sendable, CaseIterable { case bash, zsh, fish }

    var shell: Shell
    var verbs: [Verb]

    var json: JSON { ["ok": true, "shell": .string(shell.rawValue), "script": .string(text)] }

    var text: String {
        switch shell {
        case .bash: bash
        case .zsh: zsh
        case .fish: fish
        }
    }

    /// The words of an offer; `nil` when it is of files or of nothing.
    private func words(_ offer: Offer) -> [String]? {
        switch offer {
        case .nothing, .files: nil
        case .words(let words): words
        case .commands: verbs.map(\.name)
        }
    }

    /// The spellings of a flag.
    private static func spellings(_ flag: Flag) -> [String] {
        (flag.letter.map { ["-\($0)"] } ?? []) + ["--\(flag.name)"]
    }

    // MARK: bash

    /// One function: it looks for the command among the words before the cursor, and skips values of flags.
    private var bash: String {
        var cases: [String] = []
        for verb in verbs {
            let flags = verb.allFlags.flatMap(CompletionScript.spellings).joined(separator: " ")
            let valued = verb.allFlags.filter { $0.value != nil }
            var lines = ["  \(verb.name))", "    flags='\(flags)'"]
            if !valued.isEmpty {
                lines.append("    case $before in")
                for flag in valued {
                    let spelled = CompletionScript.spellings(flag).joined(separator: "|")
                    lines.append("    \(spelled)) \(bashOffer(flag.offers)); return ;;")
                }
                lines.append("    esac")
            }
            lines.append("    [[ $word == -* ]] || { \(bashOffer(verb.offers)); return; }")
            lines.append("    ;;")
            cases += lines
        }
        let valued = verbs.flatMap(\.allFlags).filter { $0.value != nil }.flatMap(CompletionScript.spellings)
        let common = Flag.common.flatMap(CompletionScript.spellings).joined(separator: " ")
        return """
            # Completions of \(Product.name) \(Product.version) for bash.
            _llm_cli_gateway() {
              local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb='' flags skip='' i
              COMPREPLY=()
              # Bash makes a word of its own of a '='.
              if [[ $word == = ]]; then word=''; elif [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi
              for ((i = 1; i < COMP_CWORD; i++)); do
                if [[ -n $skip ]]; then [[ ${COMP_WORDS[i]} == = ]] || skip=''; continue; fi
                case ${COMP_WORDS[i]} in
                \(Set(valued).sorted().joined(separator: "|"))) skip=yes ;;
                -*|=) ;;
                *) verb=${COMP_WORDS[i]}; break ;;
                esac
              done
              case $verb in
              '')
                flags='\(common)'
                [[ $word == -* ]] || { COMPREPLY=($(compgen -W '\(verbs.map(\.name).joined(separator: " "))' -- "$word")); return; }
                ;;
            \(cases.joined(separator: "\n"))
              *) return ;;
              esac
              COMPREPLY=($(compgen -W "$flags" -- "$word"))
            }
            complete -F _llm_cli_gateway \(Product.name)
            """
    }

    private func bashOffer(_ offer: Offer) -> String {
        if offer == .files {
            return #"compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$word")"#
        }
        guard let words = words(offer) else { return "COMPREPLY=()" }
        return "COMPREPLY=($(compgen -W '\(words.joined(separator: " "))' -- \"$word\"))"
    }

    // MARK: zsh

    /// A function for `_arguments`, which knows flags, their values and what excludes what.
    private var zsh: String {
        var cases: [String] = []
        for verb in verbs {
            var lines = ["    \(verb.name))", "      _arguments -s -S \\"]
            for flag in verb.allFlags { lines += zshFlag(flag).map { "        \($0) \\" } }
            let offer = verb.operand.map { "'::\($0.name):\(zshOffer(verb.offers))'" } ?? "'*: :'"
            lines.append("        \(offer)")
            lines.append("      ;;")
            cases += lines
        }
        let commands = verbs.map { "      '\($0.name):\(zshText($0.summary))'" }.joined(separator: "\n")
        let common = Flag.common.flatMap(zshFlag).map { "    \($0) \\" }.joined(separator: "\n")
        return """
            #compdef \(Product.name)
            # Completions of \(Product.name) \(Product.version) for zsh.
            _llm_cli_gateway() {
              local curcontext=$curcontext state line
              local -A opt_args
              _arguments -C \\
            \(common)
                '1: :->command' \\
                '*:: :->arguments'
              case $state in
              command)
                local -a commands
                commands=(
            \(commands)
                )
                _describe command commands
                ;;
              arguments)
                curcontext=${curcontext%:*:*}:\(Product.name)-$words[1]:
                case $words[1] in
            \(cases.joined(separator: "\n"))
                esac
                ;;
              esac
            }
            if [ "$funcstack[1]" = _llm_cli_gateway ]; then _llm_cli_gateway "$@"; else compdef _llm_cli_gateway \(Product.name); fi
            """
    }

    private func zshFlag(_ flag: Flag) -> [String] {
        let value = flag.value.map { ":\($0):\(zshOffer(flag.offers))" } ?? ""
        let spelled = CompletionScript.spellings(flag)
        return spelled.map { spelling in
            // A long one takes its value behind '=' as well.
            let name = flag.value != nil && spelling.hasPrefix("--") ? spelling + "=" : spelling
            return "'(\(spelled.joined(separator: " ")))\(name)[\(zshText(flag.help))]\(value)'"
        }
    }

    private func zshOffer(_ offer: Offer) -> String {
        if offer == .files { return "_files" }
        return words(offer).map { "(\($0.joined(separator: " ")))" } ?? " "
    }

    /// A description inside single quotes and brackets.
    private func zshText(_ text: String) -> String {
        text.replacing("'", with: "'\\''").replacing("[", with: "\\[").replacing("]", with: "\\]")
            .replacing(":", with: "\\:")
    }

    // MARK: fish

    private var fish: String {
        let command = "complete -c \(Product.name)"
        var lines = [
            "# Completions of \(Product.name) \(Product.version) for fish.",
            "\(command) -f",
        ]
        for verb in verbs {
            lines.append(
                "\(command) -n __fish_use_subcommand -a \(verb.name) -d \(CompletionScript.fishText(verb.summary))"
            )
        }
        for flag in Flag.common { lines.append("\(command)\(fishFlag(flag))") }
        for verb in verbs {
            let there = "-n '__fish_seen_subcommand_from \(verb.name)'"
            for flag in verb.flags { lines.append("\(command) \(there)\(fishFlag(flag))") }
            if verb.offers == .files { lines.append("\(command) \(there) -F") }
            if let words = words(verb.offers) {
                // Once: a second operand would not be understood. A command's own name is one as well.
                let last =
                    words.contains(verb.name)
                    ? "" : "; and not __fish_seen_subcommand_from \(words.joined(separator: " "))"
                lines.append(
                    "\(command) -n '__fish_seen_subcommand_from \(verb.name)\(last)' -a '\(words.joined(separator: " "))'"
                )
            }
        }
        return lines.joined(separator: "\n")
    }

    private func fishFlag(_ flag: Flag) -> String {
        var text = " -l \(flag.name)"
        if let letter = flag.letter { text = " -s \(letter)" + text }
        if flag.value != nil {
            text += flag.offers == .files ? " -r -F" : " -x"
            if let words = words(flag.offers) { text += " -a '\(words.joined(separator: " "))'" }
        }
        return text + " -d \(CompletionScript.fishText(flag.help))"
    }

    private static func fishText(_ text: String) -> String {
        "'" + text.replacing("\\", with: "\\\\").replacing("'", with: "\\'") + "'"
    }
}
