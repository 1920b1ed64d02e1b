#compdef forsun
# forsun completion for zsh. Put this into ~/.zshrc, after compinit:
#   source <(forsun completion zsh)
_forsun() {
	local -a candidates
	candidates=("${(@f)$(${words[1]} __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
	candidates=(${candidates:#})
	if (( $#candidates )); then
		compadd -a candidates
	else
		_files
	fi
}
compdef _forsun forsun
