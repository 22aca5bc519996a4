"""What a report cites, by key."""

from collections.abc import Mapping
from types import MappingProxyType

CITATIONS: Mapping[str, str] = MappingProxyType(
    {
        "ramw600": "RAM-W600: a multi-task wrist dataset for rheumatoid arthritis. arXiv:2507.05193, 2025.",
        "fedavg": "McMahan et al. Communication-efficient learning of deep networks from decentralized data. AISTATS "
        "2017. arXiv:1602.05629.",
        "fedprox": "Li et al. Federated optimization in heterogeneous networks. MLSys 2020. arXiv:1812.06127.",
        "fedbn": "Li et al. FedBN: federated learning on non-IID features via local batch normalization. ICLR 2021. "
        "arXiv:2102.07623.",
        "silobn": "Andreux et al. Siloed federated learning for multi-centric histopathology datasets. DART 2020. "
        "arXiv:2008.07424.",
        "flower": "Beutel et al. Flower: a friendly federated learning research framework. arXiv:2007.14390, 2020.",
        "unet": "Ronneberger et al. U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015. "
        "doi:10.1007/978-3-319-24574-4_28.",
        "logit": "Menon et al. Long-tail learning via logit adjustment. ICLR 2021. arXiv:2007.07314.",
        "balanced": "Cui et al. Class-balanced loss based on effective number of samples. CVPR 2019. arXiv:1901.05555.",
        "focal": "Lin et al. Focal loss for dense object detection. ICCV 2017. arXiv:1708.02002.",
        "distance": "Polat et al. Class distance weighted cross-entropy loss for ulcerative colitis severity "
        "estimation. MIUA 2022. arXiv:2202.05167.",
        "youden": "Youden. Index for rating diagnostic tests. Cancer 1950; 3: 32-35.",
        "guo": "Guo et al. On calibration of modern neural networks. ICML 2017. arXiv:1706.04599.",
        "platt": "Platt. Probabilistic outputs for support vector machines and comparisons to regularized likelihood "
        "methods. Advances in Large Margin Classifiers, MIT Press 1999.",
        "dice": "Dice. Measures of the amount of ecologic association between species. Ecology 1945. "
        "doi:10.2307/1932409.",
        "nsd": "Nikolov et al. Clinically applicable segmentation of head and neck anatomy for radiotherapy. JMIR "
        "2021. doi:10.2196/26151.",
        "hausdorff": "Huttenlocher et al. Comparing images using the Hausdorff distance. IEEE TPAMI 1993. "
        "doi:10.1109/34.232073.",
        "reloaded": "Maier-Hein et al. Metrics Reloaded: recommendations for image analysis validation. Nature Methods "
        "2024. doi:10.1038/s41592-023-02151-z.",
        "svdh": "van der Heijde. How to read radiographs according to the Sharp/van der Heijde method. J Rheumatol "
        "2000; 27: 261-263.",
        "prauc": "Saito and Rehmsmeier. The precision-recall plot is more informative than the ROC plot when "
        "evaluating binary classifiers on imbalanced datasets. PLoS ONE 2015. doi:10.1371/journal.pone.0118432.",
        "calibration": "Van Calster et al. Calibration: the Achilles heel of predictive analytics. BMC Medicine 2019. "
        "doi:10.1186/s12916-019-1466-7.",
        "bootstrap": "Efron and Tibshirani. An introduction to the bootstrap. Chapman and Hall 1993.",
        "holm": "Holm. A simple sequentially rejective multiple test procedure. Scand J Statist 1979; 6: 65-70.",
        "wilcoxon": "Wilcoxon. Individual comparisons by ranking methods. Biometrics 1945. doi:10.2307/3001968.",
        "hodges": "Hodges and Lehmann. Estimates of location based on rank tests. Ann Math Stat 1963. "
        "doi:10.1214/aoms/1177704172.",
        "tost": "Schuirmann. A comparison of the two one-sided tests procedure and the power approach for assessing "
        "equivalence. J Pharmacokinet Biopharm 1987. doi:10.1007/BF01068419.",
        "bland": "Bland and Altman. Statistical methods for assessing agreement between two methods of clinical "
        "measurement. Lancet 1986. doi:10.1016/S0140-6736(86)90837-8.",
        "tripod": "Collins et al. TRIPOD+AI statement. BMJ 2024; 385: e078378. doi:10.1136/bmj-2023-078378.",
        "modelcards": "Mitchell et al. Model cards for model reporting. FAccT 2019. doi:10.1145/3287560.3287596.",
    }
)


class Bibliography:
    """Numbers what is cited, in the order in which it is."""

    def __init__(self) -> None:
        self._keys: list[str] = []

    def cite(self, *keys: str) -> str:
        """Return the mark of these works, such as ``[1, 2]``.

        >>> marks = Bibliography()
        >>> marks.cite("fedavg", "flower"), marks.cite("flower")
        ('[1, 2]', '[2]')
        """
        unknown = [key for key in keys if key not in CITATIONS]
        if unknown:
            raise KeyError(f"no work is listed as {', '.join(unknown)}; add it to CITATIONS")
        self._keys += [key for key in dict.fromkeys(keys) if key not in self._keys]
        return f"[{', '.join(str(self._keys.index(key) + 1) for key in keys)}]"

    def listed(self) -> list[str]:
        """Return the works cited so far."""
        return [f"[{number}] {CITATIONS[key]}" for number, key in enumerate(self._keys, start=1)]
