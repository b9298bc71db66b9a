ARG BASE
FROM $BASE AS jobs
COPY page.html /jobs/
FROM jobs AS web
COPY page.html /www/
