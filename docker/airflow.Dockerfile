# Airflow with this package: `docker compose -f docker/compose.yaml build`. The context is the repository.
FROM apache/airflow:3.3.2-python3.12

COPY --chown=airflow:root pyproject.toml constraints.txt LICENSE README.md /opt/kafka-exactly/
COPY --chown=airflow:root airflow_kafka_exactly /opt/kafka-exactly/airflow_kafka_exactly
COPY --chown=airflow:root dags /opt/airflow/dags

# Airflow's own version is named again, so that pip rather fails than changes it. The file holds the one user of
# SimpleAuthManager, which wants to write to it.
RUN pip install --no-cache-dir --constraint /opt/kafka-exactly/constraints.txt apache-airflow==3.3.2 /opt/kafka-exactly \
    && echo '{"admin": "admin"}' > /opt/airflow/passwords.json
