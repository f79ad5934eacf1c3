"""``python -m pipelines``: every application, one line each."""

from pipelines.engine.application import application_names, load_application


def main() -> None:
    for name in application_names():
        application = load_application(name)
        print(f"{name:24} {application.summary}")
        print(f"{'':24} architectures: {', '.join(application.architectures)}")
        print(f"{'':24} datasets: {', '.join(application.sources)}")


if __name__ == "__main__":
    main()
