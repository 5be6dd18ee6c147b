#!/bin/sh
# On an emulated processor and a busy host the kernel may mismeasure the time stamp counter by several times, and says so;
# every timeout on the machine would be wrong by as much. Then the slower, steadier timer counts, from the right time on.
if dmesg | grep -q 'PIT calibration deviates'; then
    echo hpet > /sys/devices/system/clocksource/clocksource0/current_clocksource
    date --utc --set "@$(cat /sys/class/rtc/rtc0/since_epoch)"
fi
