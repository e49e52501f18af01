#!/bin/sh
exec redis-sentinel /tmp/sentinel.conf
