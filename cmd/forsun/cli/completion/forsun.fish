# forsun completion for fish. Put this into ~/.config/fish/config.fish:
#   forsun completion fish | source
function __forsun_complete
    set -l words (commandline -opc)
    $words[1] __complete $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c forsun -a '(__forsun_complete)'
