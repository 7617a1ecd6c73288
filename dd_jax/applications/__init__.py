"""What distilled sets are good for: an audit, searching architectures, and remembering tasks that are over."""

from dd_jax.applications.architecture_search import SearchOptions, search_architectures
from dd_jax.applications.audit_result import Audit
from dd_jax.applications.auditing import AuditOptions, audit
from dd_jax.applications.continual import ContinualOptions, learn_continually
from dd_jax.applications.continual_result import Continual, Course
from dd_jax.applications.privacy import PrivacyOptions, measure_privacy
from dd_jax.applications.privacy_result import Privacy
from dd_jax.applications.search_result import Ranking, Search
from dd_jax.applications.search_space import DC_SPACE, SearchSpace

__all__ = [
    "DC_SPACE",
    "Audit",
    "AuditOptions",
    "Continual",
    "ContinualOptions",
    "Course",
    "Privacy",
    "PrivacyOptions",
    "Ranking",
    "Search",
    "SearchOptions",
    "SearchSpace",
    "audit",
    "learn_continually",
    "measure_privacy",
    "search_architectures",
]
