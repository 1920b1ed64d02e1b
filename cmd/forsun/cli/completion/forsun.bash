# forsun completion for bash. Put this into ~/.bashrc:
#   source <(forsun completion bash)
_forsun() {
	# The line up to the cursor, parted at blanks only: bash itself would part
	# keys at colons.
	local words word prefix
	read -r -a words <<<"${COMP_LINE:0:COMP_POINT}"
	[[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && words+=("")
	word=${words[-1]}
	prefix=
	[[ $word == *:* && $COMP_WORDBREAKS == *:* ]] && prefix=${word%"${word##*:}"}
	COMPREPLY=()
	local candidate
	while IFS= read -r candidate; do
		candidate=${candidate#"$prefix"}
		COMPREPLY+=("$(printf %q "$candidate")")
	done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _forsun forsun
