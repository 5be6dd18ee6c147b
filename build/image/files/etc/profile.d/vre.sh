# What an operator makes is not everybody's; a forgotten session ends. CIS Debian 5.4.3.2, 5.4.3.3.
umask 027
TMOUT=900
readonly TMOUT
export TMOUT
ulimit -c 0
