"""The house's configuration files. They are installed as `hydraudio.configs`: a project finds them there."""
